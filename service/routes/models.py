"""The models that this server offers."""

from __future__ import annotations

from fastapi import APIRouter

from recipe.fields import VIEW_WEIGHTS
from recipe.regions import MAX_REGIONS
from recipe.schedulers import SCHEDULERS
from service.dependencies import AppServices
from service.schemas.server import Models, model_schema

router = APIRouter(tags=["models"])


@router.get("/models", operation_id="listModels", summary="List the models", response_model=Models)
async def list_models(services: AppServices) -> Models:
    """The allow-list with each model's own defaults, the schedulers, and this server's limits."""
    settings, catalog = services.settings, services.catalog
    return Models(
        items=[model_schema(name, catalog, settings.max_width) for name in catalog],
        schedulers=list(SCHEDULERS),
        view_weights=list(VIEW_WEIGHTS),
        limits={
            "width": settings.max_width,
            "height": settings.max_height,
            "num_inference_steps": settings.max_steps,
            "pixel_steps": settings.max_pixel_steps,
            "samples": settings.max_samples,
            "regions": MAX_REGIONS,
        },
    )
