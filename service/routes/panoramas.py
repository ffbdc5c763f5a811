"""Submit a panorama."""

from __future__ import annotations

import logging
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from jobs import logs, tracing
from jobs.idempotency import Idempotency
from service.answers import job_answer
from service.bodies import JSON, PNG, media_type, panorama_of_json, panorama_of_recipe, spooled
from service.dependencies import Caller, Held
from service.preferences import Prefer, wait_seconds
from service.responses import header, problems
from service.schemas import Job, retry_after
from service.submission import resolved, webhook_target

router = APIRouter(tags=["panoramas"])
log = logging.getLogger(__name__)

_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": {"$ref": "#/components/schemas/PanoramaRequest"}},
        PNG: {"schema": {"type": "string", "format": "binary"}},
    },
}

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$",
        description="Yours, for one submit: sent again within 24 hours it makes no second job",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]
_HEADERS = {
    "Location": header("The job"),
    "Idempotency-Replayed": header("`true` when the Idempotency-Key has made this job before"),
    "Preference-Applied": header("The `wait=N` that was applied"),
}
ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The job has ended within the time of `Prefer: wait`", "model": Job, "headers": _HEADERS},
    202: {
        "description": "Accepted: the job will reach a terminal state",
        "headers": {**_HEADERS, "Retry-After": header("Seconds until it is worth looking", "integer")},
    },
}


@router.post(
    "/panoramas",
    operation_id="submitPanorama",
    summary="Submit a panorama",
    status_code=202,
    response_model=Job,
    responses={**ACCEPTED, **problems(415, 422, 507)},
    openapi_extra={"requestBody": _BODY},
)
async def submit_panorama(
    request: Request, services: Held, caller: Caller, prefer: Prefer, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answers at once with the job; follow `Location` until its `state` is terminal.

    With an `Idempotency-Key` a repeated submit answers as the first did, with the job as it stands, and the header
    `Idempotency-Replayed: true`; another body under the same key is refused (422).

    The body may also be a PNG that this service has painted: its recipe is painted again.
    """
    if media_type(request, JSON, PNG) == PNG:
        async with spooled(request) as file:
            body = panorama_of_recipe(file)
    else:
        body = panorama_of_json(await request.body())
    params, webhook_url = resolved(services, body), webhook_target(services, body)
    services.store.check_room()
    idempotency = Idempotency.of(idempotency_key, body.asked_for()) if idempotency_key else None
    view = await services.board.submit(
        uuid.uuid4().hex,
        params,
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
        view = await services.hub.wait(view, seconds)
    if view.record.state.terminal and seconds is not None:
        return job_answer(view, status=200, headers=headers)
    return job_answer(view, status=202, headers={**headers, **retry_after(view)})
