"""Whether jobs can be accepted, and by whom they would be painted."""

from __future__ import annotations

import asyncio

from jobs.abilities import out_of_service, unavailable
from jobs.board import JobBoard
from jobs.store import ImageStore
from jobs.store_identity import StoreAnnouncer
from service.model_catalog import ModelCatalog
from service.schemas.server import Health

_SECONDS = 5.0


async def read_health(board: JobBoard, store: ImageStore, announcer: StoreAnnouncer, catalog: ModelCatalog) -> Health:
    """Asks Redis, and writes to the store.

    Raises:
        RedisError, StoreError, TimeoutError: while jobs cannot be accepted.
    """
    async with asyncio.timeout(_SECONDS):
        await board.check_server()
        workers = await board.workers()
        await store.check()
        await announcer.announce()
    out, models = out_of_service(workers), {**unavailable(workers), **catalog.unavailable}
    return Health(
        status="ok", workers=len(workers) - len(out), workers_out=out or None, unavailable_models=models or None
    )
