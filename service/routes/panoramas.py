"""Submit a panorama."""

from __future__ import annotations

import logging
import uuid
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic_core import from_json
from redis.exceptions import OutOfMemoryError

from jobs import logs, tracing
from jobs.idempotency import Idempotency
from jobs.record import Priority
from jobs.store import StoreFull
from service.dependencies import AppServices, CurrentCaller, IdempotencyKey, Services
from service.job_response import job_response, retry_after
from service.links import link
from service.openapi_responses import problem_responses, response_header
from service.prefer_header import Prefer, wait_seconds
from service.problems import FieldProblem, ProblemError, invalid_request, pointer
from service.request_body import JSON, LONG_TEXT, PNG, body_file, media_type, panorama_from_json, panorama_from_png
from service.resolve_request import resolve_input, resolve_webhook_url
from service.routes.webhooks import outgoing_calls
from service.schemas.jobs import Job
from service.schemas.requests import PanoramaRequest

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


async def _beside_a_png(
    priority: Annotated[Priority | None, Query(description="Of a PNG's job; in JSON it stands in the body")] = None,
    webhook_url: Annotated[str | None, Query(max_length=2048, description="Likewise")] = None,
    metadata: Annotated[
        str | None, Query(max_length=16 * 1024, description="Likewise, as the text of a JSON object", examples=["{}"])
    ] = None,
) -> dict[str, Any]:
    given: dict[str, Any] = {"priority": priority, "webhook_url": webhook_url}
    if metadata is not None:
        try:
            given["metadata"] = from_json(metadata)
        except ValueError as error:
            problem = FieldProblem(pointer="#/metadata", detail="is no JSON (in the query)")
            raise invalid_request([problem]) from error
    return {name: value for name, value in given.items() if value is not None}


async def _read_body(services: Services, request: Request, beside: dict[str, Any]) -> PanoramaRequest:
    if media_type(request, JSON, PNG) == PNG:
        async with body_file(request) as file:
            return await services.slices.run(partial(panorama_from_png, file, beside))
    if beside:
        faults = [FieldProblem(pointer=pointer(name), detail="belongs into the body (in the query)") for name in beside]
        raise invalid_request(faults)
    text = await request.body()
    if len(text) <= LONG_TEXT:
        return panorama_from_json(text)
    return await services.slices.run(partial(panorama_from_json, text))


@router.post(
    "/panoramas",
    operation_id="submitPanorama",
    summary="Submit a panorama",
    status_code=202,
    response_model=Job,
    responses={**_RESPONSES, **problem_responses(415, 422, 507)},
    openapi_extra={"requestBody": _BODY},
    callbacks=outgoing_calls.routes,
)
async def submit_panorama(
    request: Request,
    services: AppServices,
    caller: CurrentCaller,
    prefer: Prefer,
    beside: Annotated[dict[str, Any], Depends(_beside_a_png)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Answers at once with the job; follow `Location` until its `state` is terminal.

    With an `Idempotency-Key` a repeated submit answers as the first did, with the job as it stands, and the header
    `Idempotency-Replayed: true`; another body under the same key is refused (422).

    The body may also be a PNG that this service has painted: its recipe is painted again. What is no part of a recipe
    then stands in the query.
    """
    body = await _read_body(services, request, beside)
    job_input, webhook_url = resolve_input(services, body), resolve_webhook_url(services, body)
    idempotency = Idempotency.of(idempotency_key, body.requested_fields()) if idempotency_key else None
    try:
        await services.store.check_room()
        view = await services.board.submit(
            uuid.uuid4().hex,
            job_input.values,
            body.metadata,
            owner=caller.owner,
            priority=body.priority,
            idempotency=idempotency,
            webhook_url=webhook_url,
            network_samples=job_input.network_samples,
        )
    except (StoreFull, OutOfMemoryError):
        replayed = await services.board.replayed(caller.owner, idempotency) if idempotency else None
        if replayed is None:
            raise
        view = replayed
    if view.record.deleted:
        raise ProblemError("expired", "The job of this Idempotency-Key was deleted; another key makes another job.")
    logs.set_job(view.record.id)
    tracing.annotate(panoramas__job_id=view.record.id)
    if not view.replayed:
        log.info("job %s: accepted", view.record.id)
    headers = {"Location": link(f"/jobs/{view.record.id}")}
    if view.replayed:
        headers["Idempotency-Replayed"] = "true"
    seconds = wait_seconds(prefer, services.settings.max_wait)
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        view = await services.event_hub.wait(view, seconds)
    if view.record.state.terminal and seconds is not None:
        return job_response(view, status=200, headers=headers)
    return job_response(view, status=202, headers={**headers, **retry_after(view)})
