"""Is the process alive, and can jobs be accepted."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from service.dependencies import Held
from service.metrics import exposition
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


_EXAMPLE = """\
# HELP panoramas_queue_depth Jobs that wait
# TYPE panoramas_queue_depth gauge
panoramas_queue_depth{priority="interactive"} 3.0
"""


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus's text format, or OpenMetrics where `Accept` asks for that",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        }
    },
)
async def get_metrics(services: Held, request: Request) -> Response:
    """Queue, jobs, workers, phases, steps, model loads and GPU memory of the whole service, whichever API process is
    asked; `panoramas_http_*` and `panoramas_api_*` are this process's own. It answers while Redis is away.
    """
    try:
        figures = await services.figures()
    except (RedisError, TimeoutError):
        figures = None
    services.requests.listeners.set(services.hub.listeners)
    text, media_type = exposition(services.requests, figures, request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
