"""Submit a panorama."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from fastapi import APIRouter, Request, Response

from jobs import logs, tracing
from jobs.idempotency import Idempotency
from service.dependencies import AppServices, CurrentCaller, IdempotencyKey
from service.job_response import job_response, retry_after
from service.openapi_responses import problem_responses, response_header
from service.prefer_header import Prefer, wait_seconds
from service.request_body import JSON, PNG, body_file, media_type, panorama_from_json, panorama_from_png
from service.resolve_request import resolve_input, resolve_webhook_url
from service.schemas.jobs import Job

router = APIRouter(tags=["panoramas"])
log = logging.getLogger(__name__)

_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": {"$ref": "#/components/schemas/PanoramaRequest"}},
        PNG: {"schema": {"type": "string", "format": "binary"}},
    },
}

_HEADERS = {
    "Location": response_header("The job"),
    "Idempotency-Replayed": response_header("`true` when the Idempotency-Key has made this job before"),
    "Preference-Applied": response_header("The `wait=N` that was applied"),
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The job has ended within the time of `Prefer: wait`", "model": Job, "headers": _HEADERS},
    202: {
        "description": "Accepted: the job will reach a terminal state",
        "headers": {**_HEADERS, "Retry-After": response_header("Seconds until it is worth looking", "integer")},
    },
}


@router.post(
    "/panoramas",
    operation_id="submitPanorama",
    summary="Submit a panorama",
    status_code=202,
    response_model=Job,
    responses={**_RESPONSES, **problem_responses(415, 422, 507)},
    openapi_extra={"requestBody": _BODY},
)
async def submit_panorama(
    request: Request,
    services: AppServices,
    caller: CurrentCaller,
    prefer: Prefer,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Answers at once with the job; follow `Location` until its `state` is terminal.

    With an `Idempotency-Key` a repeated submit answers as the first did, with the job as it stands, and the header
    `Idempotency-Replayed: true`; another body under the same key is refused (422).

    The body may also be a PNG that this service has painted: its recipe is painted again.
    """
    if media_type(request, JSON, PNG) == PNG:
        async with body_file(request) as file:
            body = panorama_from_png(file)
    else:
        body = panorama_from_json(await request.body())
    job_input, webhook_url = resolve_input(services, body), resolve_webhook_url(services, body)
    await services.store.check_room()
    idempotency = Idempotency.of(idempotency_key, body.requested_fields()) if idempotency_key else None
    view = await services.board.submit(
        uuid.uuid4().hex,
        job_input,
        body.metadata,
        owner=caller.owner,
        priority=body.priority,
        idempotency=idempotency,
        webhook_url=webhook_url,
    )
    logs.set_job(view.record.id)
    tracing.annotate(panoramas__job_id=view.record.id)
    if not view.replayed:
        log.info("job %s: accepted", view.record.id)
    headers = {"Location": f"/jobs/{view.record.id}"}
    if view.replayed:
        headers["Idempotency-Replayed"] = "true"
    seconds = wait_seconds(prefer, services.settings.max_wait)
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        view = await services.event_hub.wait(view, seconds)
    if view.record.state.terminal and seconds is not None:
        return job_response(view, status=200, headers=headers)
    return job_response(view, status=202, headers={**headers, **retry_after(view)})
