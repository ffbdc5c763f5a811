"""The operations: submit a panorama, look at a job, fetch its image, cancel it, list the models, health."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.params import SCHEDULERS, VIEW_WEIGHTS
from jobs.record import State
from jobs.store import ImageDamaged, ImageMissing
from service.dependencies import FoundJob, Held, JobId, Services, no_such_job
from service.problems import MEDIA_TYPE, FieldProblem, ProblemError, invalid
from service.schemas import Health, Job, Models, PanoramaRequest, job_out, model_info, retry_after

router = APIRouter()


Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """OpenAPI responses of an operation's problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


_MEANINGS = {
    400: "The body could not be read",
    404: "No such job",
    409: "There is no image (yet); `Retry-After` says when to ask again, where asking again helps",
    410: "The image has expired",
    413: "The body is larger than the server takes",
    422: "A field is not valid; `errors` names it",
    429: "The queue is full; `Retry-After` says when to try again",
    500: "A fault of the server",
    503: "The queue or the image store does not answer; `Retry-After` says when to try again",
    507: "The queue's storage is full",
}


@router.post(
    "/panoramas",
    operation_id="submitPanorama",
    summary="Submit a panorama",
    status_code=202,
    response_model=Job,
    tags=["panoramas"],
    responses={
        202: {
            "description": "Accepted: the job will reach a terminal state",
            "headers": {
                "Location": {"description": "The job", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds until it is worth looking", "schema": {"type": "integer"}},
            },
        },
        **problems(400, 413, 422, 429, 503, 507),
    },
)
async def submit_panorama(body: PanoramaRequest, services: Held, response: Response) -> Job:
    """Answers at once with the job; poll `Location` until its `state` is terminal."""
    name = body.model or next(iter(services.catalog))
    if name not in services.catalog:
        known = ", ".join(services.catalog)
        raise invalid([FieldProblem(pointer="#/model", detail=f"must be one of {known}; not {name!r}")])
    params = body.resolve(services.catalog[name])
    _check_limits(services, params.width, params.height, params.num_inference_steps)
    view = await services.board.submit(uuid.uuid4().hex, {**asdict(params), "model": name}, body.metadata)
    response.headers.update({"Location": f"/jobs/{view.record.id}", **retry_after(view)})
    return job_out(view)


def _check_limits(services: Services, width: int, height: int, steps: int) -> None:
    limits = services.settings
    too_much = [
        FieldProblem(pointer=f"#/{field}", detail=f"must be at most {most} on this server, not {value}")
        for field, value, most in (
            ("width", width, limits.max_width),
            ("height", height, limits.max_height),
            ("num_inference_steps", steps, limits.max_steps),
        )
        if value > most
    ]
    if too_much:
        raise invalid(too_much)


@router.get(
    "/jobs/{job_id}",
    operation_id="getJob",
    summary="Look at a job",
    response_model=Job,
    tags=["jobs"],
    responses=problems(404, 422, 503),
)
async def get_job(view: FoundJob, response: Response) -> Job:
    """State, progress, and once it has succeeded the `result` with the image's address."""
    response.headers["Cache-Control"] = "no-store"
    if not view.record.state.terminal:
        response.headers.update(retry_after(view))
    return job_out(view)


@router.post(
    "/jobs/{job_id}/cancel",
    operation_id="cancelJob",
    summary="Cancel a job",
    status_code=202,
    response_model=Job,
    tags=["jobs"],
    responses=problems(404, 422, 503),
)
async def cancel_job(job_id: JobId, services: Held) -> Job:
    """Idempotent. A queued job is canceled at once, a running one within a step; an ended one stays as it is."""
    known = await services.board.cancel(job_id)
    view = await services.board.get(job_id) if known else None
    if view is None:
        raise no_such_job(job_id)
    return job_out(view)


_PNG: Responses = {
    200: {"description": "The picture", "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.head("/jobs/{job_id}/image", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/image",
    operation_id="getImage",
    summary="Fetch a job's image",
    response_class=Response,
    tags=["jobs"],
    responses={**_PNG, 304: {"description": "Not modified"}, **problems(404, 409, 410, 422, 500, 503)},
)
async def get_image(view: FoundJob, services: Held, request: Request) -> Response:
    """The PNG, with the settings that painted it in its text chunks."""
    record = view.record
    if record.state == State.EXPIRED:
        raise _gone()
    if record.state != State.SUCCEEDED or record.result is None:
        again = {} if record.state.terminal else retry_after(view)
        title = f"The job has no image: it {'is' if not record.state.terminal else 'has'} {record.state}"
        if record.state == State.CANCELED:
            title = "The job has no image: it was canceled"
        raise ProblemError(409, "no-image", title, headers=again)
    etag = f'"{record.result["sha256"]}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=31536000, immutable"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        png = await services.store.get(record.result["key"], record.result["sha256"])
    except ImageMissing as error:
        raise _gone() from error
    except ImageDamaged as error:
        raise ProblemError(500, "image-damaged", "The stored image does not match its digest") from error
    headers["Content-Disposition"] = f'inline; filename="panorama-{record.id}.png"'
    return Response(png, media_type="image/png", headers=headers)


def _gone() -> ProblemError:
    return ProblemError(410, "expired", "The image has expired")


@router.get("/models", operation_id="listModels", summary="List the models", response_model=Models, tags=["models"])
async def list_models(services: Held) -> Models:
    """The allow-list with each model's own defaults, the schedulers, and this server's limits."""
    first = next(iter(services.catalog))
    settings = services.settings
    return Models(
        items=[model_info(spec, default=name == first) for name, spec in services.catalog.items()],
        schedulers=list(SCHEDULERS),
        view_weights=list(VIEW_WEIGHTS),
        limits={"width": settings.max_width, "height": settings.max_height, "num_inference_steps": settings.max_steps},
    )


@router.get("/livez", operation_id="livez", summary="Is the process alive", response_model=Health, tags=["health"])
async def livez() -> Health:
    """200 for as long as the process answers, whatever else is down."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Can jobs be accepted",
    response_model=Health,
    tags=["health"],
    responses=problems(503),
)
async def readyz(services: Held) -> Health:
    """503 while the queue or the image store is unusable. Workers are counted, not required: jobs wait for them."""
    async with asyncio.timeout(5):
        workers = await services.board.workers()
        await services.store.check()
    return Health(status="ok", workers=workers)
