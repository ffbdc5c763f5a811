"""The API's operations, one module for each resource."""

from fastapi import APIRouter, Depends

from service.query import only_known_parameters
from service.routes import batches, events, health, images, jobs, models, panoramas, webhooks

router = APIRouter(dependencies=[Depends(only_known_parameters)])
for module in (panoramas, batches, jobs, images, events, webhooks, models, health):
    router.include_router(module.router)
