"""Many panoramas in one submit."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from dataclasses import dataclass, field
from typing import IO, Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from jobs.batches import Batch as BatchRecord
from jobs.batches import NewJob
from jobs.board import QueueFull
from jobs.idempotency import Idempotency
from recipe.errors import RecipeError
from service.archive import zipped
from service.batch_schemas import Batch, batch_out
from service.bodies import JSON, JSON_LINES, batch_items, canonical, media_type, of_item, spooled
from service.conditional import is_fresh, weak_etag
from service.dependencies import Caller, FoundBatch, Held, Services, no_such_batch
from service.preferences import Prefer, is_lenient
from service.problems import FieldProblem, ProblemError, faults_of, invalid
from service.responses import NOT_MODIFIED, Responses, binary, header, problems
from service.routes.panoramas import IdempotencyKey
from service.schemas import PanoramaRequest
from service.submission import resolved, webhook_target

router = APIRouter(tags=["batches"])
log = logging.getLogger(__name__)

_ERRORS_TOLD = 100  # items whose faults are told
_PAUSE_EVERY = 50  # items between which other requests get their turn
_PIECE = 500  # jobs resolved and then made together
_HEADERS = {
    "Location": header("The batch"),
    "Retry-After": header("Seconds until it is worth looking", "integer"),
    "Idempotency-Replayed": header("`true` when the Idempotency-Key has begun this batch before"),
    "Preference-Applied": header("`handling=lenient`, where that was asked for"),
}
_ACCEPTED: Responses = {202: {"description": "Accepted: every job will reach a terminal state", "headers": _HEADERS}}
_SEEN: Responses = {200: {"headers": {"ETag": header("Changes with the counts")}}}
_LINES = '{"prompt": "snowy mountains at sunset"}\n{"prompt": "a harbour at night", "width": 1024}\n'
_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": {"$ref": "#/components/schemas/BatchRequest"}},
        JSON_LINES: {"schema": {"type": "string"}, "example": _LINES},
    },
}


@dataclass(slots=True)
class _Findings:
    """What a first look at every item found. Nothing is made before it."""

    total: int = 0
    refused: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    faults: list[FieldProblem] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)

    def refuse(self, index: int, faults: list[FieldProblem]) -> None:
        self.refused += 1
        self.digest.update(b"-\n")
        if len(self.errors) < _ERRORS_TOLD:
            told = [FieldProblem(pointer=_within(index, fault), detail=fault.detail) for fault in faults]
            self.errors.append({"index": index, "errors": [fault.model_dump(exclude_none=True) for fault in told]})
            self.faults += faults

    def accept(self, request: PanoramaRequest) -> None:
        self.total += 1
        self.digest.update(canonical(request) + b"\n")


@router.post(
    "/batches",
    operation_id="submitBatch",
    summary="Submit many panoramas",
    status_code=202,
    response_model=Batch,
    responses={**_ACCEPTED, **problems(415, 422, 507)},
    openapi_extra={"requestBody": _BODY},
)
async def submit_batch(
    request: Request, services: Held, caller: Caller, prefer: Prefer, idempotency_key: IdempotencyKey = None
) -> Response:
    """Up to 10,000 items, each as `POST /panoramas` takes it, as `{"items": [...]}` or as JSON lines. Nothing is begun
    before the last byte has arrived. One bad item refuses them all (422, `index` and `pointer` say which and where);
    with `Prefer: handling=lenient` the good ones are accepted and `errors` tells the others.

    An item's `priority` is `batch` unless it says otherwise. With an `Idempotency-Key`, a submit that broke off may be
    sent again: what has become a job stays that job, and what is missing is made.
    """
    kind, lenient = media_type(request, JSON, JSON_LINES), is_lenient(prefer)
    services.store.check_room()
    async with spooled(request) as file:
        found = await _look(services, file, kind)
        if found.refused and not (lenient and found.total):
            raise _refusal(found)
        if not found.total:
            raise invalid([FieldProblem(pointer="#/items", detail="must hold at least one panorama")])
        most = (await services.board.room(caller.owner))[1]
        if found.total > most:
            detail = f"are more than the {most} jobs that may wait here"
            raise invalid([FieldProblem(pointer="#/items", detail=detail)])
        batch = await services.batches.open(
            uuid.uuid4().hex,
            caller.owner,
            total=found.total,
            refused=found.refused,
            errors=found.errors,
            idempotency=Idempotency(idempotency_key, found.digest.hexdigest()) if idempotency_key else None,
        )
        if not batch.complete:
            await _fill(services, batch, file, kind, keep=idempotency_key is not None)
    view = await services.batches.get(batch.id) or batch
    log.info("batch %s: %d jobs accepted, %d items refused", batch.id, view.accepted, view.refused)
    headers = {"Location": f"/batches/{batch.id}", "Retry-After": "2"}
    headers |= {"Idempotency-Replayed": "true"} if batch.replayed else {}
    headers |= {"Preference-Applied": "handling=lenient"} if lenient else {}
    return await _answer(services, view, 202, headers)


async def _look(services: Services, file: IO[bytes], kind: str) -> _Findings:
    found, most = _Findings(), services.settings.max_batch_items
    for index, item in enumerate(batch_items(file, kind)):
        if index >= most:
            raise invalid([FieldProblem(pointer="#/items", detail=f"must be at most {most}")])
        if index % _PAUSE_EVERY == 0:
            await asyncio.sleep(0)
        if isinstance(item, PanoramaRequest):
            try:
                resolved(services, item)
                webhook_target(services, item)
            except (ProblemError, RecipeError) as error:
                found.refuse(index, of_item(index, faults_of(error)))
            else:
                found.accept(item)
        else:
            found.refuse(index, item)
    return found


async def _fill(services: Services, batch: BatchRecord, file: IO[bytes], kind: str, *, keep: bool) -> None:
    """Make the jobs, some hundred at a time. Where the queue is full, what was made stays only if a key can go on."""
    free, _ = await services.board.room(batch.owner)
    try:
        if batch.total - batch.accepted > free:
            raise QueueFull(retry_after=await services.board.pace_seconds())
        piece: list[NewJob] = []
        for index, item in enumerate(batch_items(file, kind)):
            if isinstance(item, PanoramaRequest) and (job := _new_job(services, index, item)):
                piece.append(job)
            if len(piece) == _PIECE:
                await services.batches.fill(batch, piece)
                piece = []
            elif index % _PAUSE_EVERY == 0:
                await asyncio.sleep(0)
        await services.batches.fill(batch, piece)
    except QueueFull:
        if not keep:
            await services.batches.cancel(batch.id)
        raise


def _new_job(services: Services, index: int, item: PanoramaRequest) -> NewJob | None:
    try:
        params, webhook_url = resolved(services, item), webhook_target(services, item)
    except (ProblemError, RecipeError):
        return None  # it was told with the refused ones
    priority = item.priority if "priority" in item.model_fields_set else "batch"
    return NewJob(index, params, item.metadata, priority, webhook_url)


def _refusal(found: _Findings) -> ProblemError:
    error = invalid(found.faults)
    error.problem.detail = f"{found.refused} of {found.total + found.refused} items are not valid; none was accepted"
    return error


def _within(index: int, fault: FieldProblem) -> str:
    return "#" + fault.pointer.removeprefix(f"#/items/{index}")


@router.get(
    "/batches/{batch_id}",
    operation_id="getBatch",
    summary="Look at a batch",
    response_model=Batch,
    responses={**_SEEN, **NOT_MODIFIED, **problems(404, 422)},
)
async def get_batch(
    batch: FoundBatch,
    services: Held,
    if_none_match: Annotated[str | None, Header(description="304 when the batch is still as it was")] = None,
) -> Response:
    """Its jobs counted by state; `GET /jobs?batch=` lists them."""
    etag = weak_etag(batch_out(batch, None).model_dump_json().encode())  # the estimate changes with the clock alone
    headers = {"Cache-Control": "private, no-cache", "ETag": etag}
    if is_fresh(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return await _answer(services, batch, 200, headers if batch.ended else {**headers, "Retry-After": "2"})


@router.post(
    "/batches/{batch_id}/cancel",
    operation_id="cancelBatch",
    summary="Cancel a batch",
    status_code=202,
    response_model=Batch,
    responses=problems(404, 422),
)
async def cancel_batch(batch: FoundBatch, services: Held) -> Response:
    """Idempotent. Queued jobs are canceled at once, running ones within a step; those that have ended stay."""
    await services.batches.cancel(batch.id)
    after = await services.batches.get(batch.id)
    if after is None:
        raise no_such_batch(batch.id)
    return await _answer(services, after, 202, {})


@router.get(
    "/batches/{batch_id}/images.zip",
    operation_id="getBatchImages",
    summary="Fetch the pictures of a batch",
    response_class=StreamingResponse,
    responses={200: binary("application/zip", "The pictures that there are by now"), **problems(404, 422)},
)
async def get_batch_images(batch: FoundBatch, services: Held) -> StreamingResponse:
    """`{index}-{job id}.png` of every job that has succeeded, and `manifest.jsonl`. Streamed: it has no length."""
    return StreamingResponse(
        zipped(services.batches.succeeded(batch.id), services.store),
        media_type="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="batch-{batch.id}.zip"',
            "Cache-Control": "private, no-store",
        },
    )


async def _answer(services: Services, batch: BatchRecord, status: int, headers: dict[str, str]) -> Response:
    told = batch_out(batch, await services.batches.eta_seconds(batch))
    return Response(told.model_dump_json(), status, headers, media_type="application/json")
