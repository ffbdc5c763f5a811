"""The operations, one noun a module."""

from fastapi import APIRouter

from service.routes import batches, events, health, images, jobs, models, panoramas

router = APIRouter()
for noun in (panoramas, batches, jobs, images, events, models, health):
    router.include_router(noun.router)
