"""The operations, one noun a module."""

from fastapi import APIRouter

from service.routes import batches, events, health, images, jobs, models, panoramas, webhooks

router = APIRouter()
for noun in (panoramas, batches, jobs, images, events, webhooks, models, health):
    router.include_router(noun.router)
