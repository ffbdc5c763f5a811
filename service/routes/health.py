"""Is the process alive, and can jobs be accepted."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from service.dependencies import Held
from service.responses import problems
from service.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/livez", operation_id="livez", summary="Is the process alive", response_model=Health)
async def livez() -> Health:
    """200 for as long as the process answers, whatever else is down."""
    return Health(status="ok")


@router.get(
    "/readyz", operation_id="readyz", summary="Can jobs be accepted", response_model=Health, responses=problems(503)
)
async def readyz(services: Held) -> Health:
    """503 while the queue or the image store is unusable. Workers are counted, not required: jobs wait for them."""
    async with asyncio.timeout(5):
        workers = await services.board.workers()
        await services.store.check()
    return Health(status="ok", workers=workers)
