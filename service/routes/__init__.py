"""The API's operations, one module for each resource."""

from fastapi import APIRouter

from service.routes import batches, events, health, images, jobs, models, panoramas, webhooks

router = APIRouter()
for module in (panoramas, batches, jobs, images, events, webhooks, models, health):
    router.include_router(module.router)
