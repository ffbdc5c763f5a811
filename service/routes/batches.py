"""Submit, get and cancel batches, and fetch their images."""

from __future__ import annotations

import logging
import uuid
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from jobs.batches import Batch as BatchRecord
from jobs.idempotency import Idempotency
from service.archive import stream_archive
from service.batch_submission import check_items, make_jobs
from service.conditional import is_fresh, weak_etag
from service.dependencies import AppServices, CurrentCaller, IdempotencyKey, RequestedBatch, Services, unknown_batch
from service.links import link
from service.openapi_responses import NOT_MODIFIED, Responses, file_response, problem_responses, response_header
from service.prefer_header import Prefer, is_lenient
from service.problems import FieldProblem, invalid_request
from service.request_body import JSON, JSON_LINES, body_file, media_type
from service.schemas.batches import Batch, batch_schema

router = APIRouter(tags=["batches"])
log = logging.getLogger(__name__)

_HEADERS = {
    "Location": response_header("The batch"),
    "Retry-After": response_header("Seconds until it is worth looking", "integer"),
    "Idempotency-Replayed": response_header("`true` when the Idempotency-Key has begun this batch before"),
    "Preference-Applied": response_header("`handling=lenient`, where that was asked for"),
}
_ACCEPTED: Responses = {202: {"description": "Accepted: every job will reach a terminal state", "headers": _HEADERS}}
_BATCH_HEADERS: Responses = {200: {"headers": {"ETag": response_header("Changes with the counts")}}}
_LINES = '{"prompt": "snowy mountains at sunset"}\n{"prompt": "a harbour at night", "width": 1024}\n'
_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": {"$ref": "#/components/schemas/BatchRequest"}},
        JSON_LINES: {"schema": {"type": "string"}, "example": _LINES},
    },
}


@router.post(
    "/batches",
    operation_id="submitBatch",
    summary="Submit many panoramas",
    status_code=202,
    response_model=Batch,
    responses={**_ACCEPTED, **problem_responses(415, 422, 507)},
    openapi_extra={"requestBody": _BODY},
)
async def submit_batch(
    request: Request,
    services: AppServices,
    caller: CurrentCaller,
    prefer: Prefer,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Up to 10,000 items, each as `POST /panoramas` takes it, as `{"items": [...]}` or as JSON lines. Nothing is begun
    before the last byte has arrived. One bad item refuses them all (422, `index` and `pointer` say which and where);
    with `Prefer: handling=lenient` the good ones are accepted and `errors` tells the others.

    An item's `priority` is `batch` unless it says otherwise. With an `Idempotency-Key`, a submit that broke off may be
    sent again: what has become a job stays that job, and what is missing is made.
    """
    body_type, lenient = media_type(request, JSON, JSON_LINES), is_lenient(prefer)
    async with body_file(request) as file:
        checked = await check_items(services, file, body_type, lenient=lenient)
        if checked.refused and not (lenient and checked.accepted):
            raise checked.refusal()
        if not checked.accepted:
            raise invalid_request([FieldProblem(pointer="#/items", detail="must hold at least one panorama")])
        most = (await services.board.room(caller.owner))[1]
        if checked.accepted > most:
            detail = f"are more than the {most} jobs that may wait here"
            raise invalid_request([FieldProblem(pointer="#/items", detail=detail)])
        if idempotency_key is None:
            await services.store.check_room()
        batch = await services.batches.open(
            uuid.uuid4().hex,
            caller.owner,
            total=checked.accepted,
            refused=checked.refused,
            errors=checked.errors,
            idempotency=Idempotency(idempotency_key, checked.digest.hexdigest()) if idempotency_key else None,
        )
        if not batch.complete:
            await services.store.check_room()
            await make_jobs(services, batch, file, body_type, resumable=idempotency_key is not None)
    view = await services.batches.get(batch.id) or batch
    log.info("batch %s: %d jobs accepted, %d items refused", batch.id, view.accepted, view.refused)
    headers = {"Location": link(f"/batches/{batch.id}"), "Retry-After": "2"}
    headers |= {"Idempotency-Replayed": "true"} if batch.replayed else {}
    headers |= {"Preference-Applied": "handling=lenient"} if lenient else {}
    return await _batch_response(services, view, 202, headers)


@router.get(
    "/batches/{batch_id}",
    operation_id="getBatch",
    summary="Look at a batch",
    response_model=Batch,
    responses={**_BATCH_HEADERS, **NOT_MODIFIED, **problem_responses(404, 422)},
)
async def get_batch(
    batch: RequestedBatch,
    services: AppServices,
    if_none_match: Annotated[str | None, Header(description="304 when the batch is still as it was")] = None,
) -> Response:
    """Its jobs counted by state; `GET /jobs?batch=` lists them."""
    etag = weak_etag(batch_schema(batch, None).model_dump_json().encode())
    headers = {"Cache-Control": "private, no-cache", "ETag": etag}
    if is_fresh(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return await _batch_response(services, batch, 200, headers if batch.ended else {**headers, "Retry-After": "2"})


@router.post(
    "/batches/{batch_id}/cancel",
    operation_id="cancelBatch",
    summary="Cancel a batch",
    status_code=202,
    response_model=Batch,
    responses={200: {"description": "Every job had ended before", "model": Batch}, **problem_responses(404, 422)},
)
async def cancel_batch(batch: RequestedBatch, services: AppServices) -> Response:
    """Idempotent. Queued jobs are canceled at once, running ones within a step; those that have ended stay."""
    if batch.ended:
        return await _batch_response(services, batch, 200, {})
    await services.batches.cancel(batch.id)
    canceled = await services.batches.get(batch.id)
    if canceled is None:
        raise unknown_batch(batch.id)
    return await _batch_response(services, canceled, 202, {})


@router.get(
    "/batches/{batch_id}/images.zip",
    operation_id="getBatchImages",
    summary="Fetch the pictures of a batch",
    response_class=StreamingResponse,
    responses={
        200: file_response("application/zip", "The pictures that there are by now"),
        **problem_responses(404, 422),
    },
)
async def get_batch_images(batch: RequestedBatch, services: AppServices) -> StreamingResponse:
    """`{index}-{job id}.png` of every job that has succeeded, and `manifest.jsonl`. Streamed: it has no length."""
    return StreamingResponse(
        stream_archive(services.batches.succeeded(batch.id), services.store),
        media_type="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="batch-{batch.id}.zip"',
            "Cache-Control": "private, no-store",
        },
    )


async def _batch_response(services: Services, batch: BatchRecord, status: int, headers: dict[str, str]) -> Response:
    body = batch_schema(batch, await services.batches.eta_seconds(batch))
    return Response(body.model_dump_json(), status, headers, media_type="application/json")
