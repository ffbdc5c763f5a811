"""Health checks and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from service.dependencies import AppServices
from service.metrics import render_metrics
from service.openapi_responses import problem_responses
from service.schemas.server import Health

router = APIRouter(tags=["health"])


@router.get("/livez", operation_id="livez", summary="Is the process alive", response_model=Health)
async def livez() -> Health:
    """200 for as long as the process answers, whatever else is down."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Can jobs be accepted",
    response_model=Health,
    response_model_exclude_none=True,
    responses=problem_responses(503),
)
async def readyz(services: AppServices) -> Health:
    """503 while the queue or the image store is unusable. Workers are counted, not required: jobs wait for them. One
    that has not loaded its model yet, whose device or image store fails, or whose store is not the API's, is not
    counted and listed with the reason. The answer may be two seconds old.
    """
    return await services.readiness.get()


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
async def get_metrics(services: AppServices, request: Request) -> Response:
    """Queue, jobs, workers, phases, steps, model loads and GPU memory of the whole service, whichever API process is
    asked; `panoramas_http_*` and `panoramas_api_*` are this process's own. It answers while Redis is away.
    """
    try:
        figures = await services.figures()
    except (RedisError, TimeoutError):
        figures = None
    services.requests.event_streams.set(services.event_hub.listener_count)
    text, media_type = render_metrics(services.requests, figures, request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
