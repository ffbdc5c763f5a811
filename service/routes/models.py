"""Which models can be asked for."""

from __future__ import annotations

from fastapi import APIRouter

from recipe.fields import VIEW_WEIGHTS
from recipe.schedulers import SCHEDULERS
from service.dependencies import Held
from service.schemas import Models, model_info

router = APIRouter(tags=["models"])


@router.get("/models", operation_id="listModels", summary="List the models", response_model=Models)
async def list_models(services: Held) -> Models:
    """The allow-list with each model's own defaults, the schedulers, and this server's limits."""
    first = next(iter(services.catalog))
    settings = services.settings
    return Models(
        items=[model_info(spec, default=name == first) for name, spec in services.catalog.items()],
        schedulers=list(SCHEDULERS),
        view_weights=list(VIEW_WEIGHTS),
        limits={
            "width": settings.max_width,
            "height": settings.max_height,
            "num_inference_steps": settings.max_steps,
            "pixel_steps": settings.max_pixel_steps,
        },
    )
