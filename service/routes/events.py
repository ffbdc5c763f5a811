"""A job's event stream, and previews of its unfinished canvas."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from redis.exceptions import RedisError

from jobs.board import JobView
from jobs.events import BEGINNING, position
from service.dependencies import AppServices, RequestedJob, Services
from service.openapi_responses import Responses, file_response, problem_responses
from service.problems import FieldProblem, ProblemError, invalid_request
from service.sse import KEEP_ALIVE, MEDIA_TYPE, RETRY, ServerSentEvent, job_event, log_event

router = APIRouter(tags=["jobs"])

_KEEP_ALIVE_SECONDS = 15.0
_EXAMPLE = """\
id: 1795547843059-0
event: preview
data: {"step": 7, "url": "/jobs/8a0f.../preview?step=7"}

"""
_STREAM: Responses = {
    200: {
        "description": "Events until the job has ended",
        # Without a type, because tools disagree whether it describes one event or the whole stream.
        "content": {MEDIA_TYPE: {"schema": {"title": "Server-sent events"}, "example": _EXAMPLE}},
    },
    204: {"description": "The job has ended and the client knows: it need not come back"},
}


@router.get(
    "/jobs/{job_id}/events",
    operation_id="streamEvents",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={**_STREAM, **problem_responses(404, 410, 422)},
)
async def stream_events(
    view: RequestedJob,
    services: AppServices,
    last_event_id: Annotated[
        str | None, Header(description="Where to go on: the id of the last event that arrived", examples=["0-0"])
    ] = None,
) -> Response:
    """Server-sent events. `job` is the whole job, first of all and at every change of state; `progress` its step,
    fraction, phase, place and estimate; `preview` the address of a small picture of the unfinished canvas. The stream
    ends after the `job` event with a terminal state.
    """
    seen = _checked_event_id(last_event_id)
    # Read before the job is looked up again, so that an event in between is sent twice rather than lost.
    latest = await services.event_hub.events.last_id(view.record.id)
    view = await services.board.get(view.record.id) or view
    ended = view.record.finished_at if view.record.state.terminal else None
    if seen and ended is not None and position(seen)[0] >= ended:
        return Response(status_code=204)
    if seen and position(seen) > position(latest):
        seen = latest  # of another server or clock: what comes next would never be behind it
    return StreamingResponse(
        _stream(services, view, seen, latest),
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _checked_event_id(last_event_id: str | None) -> str | None:
    if not last_event_id:
        return None
    try:
        position(last_event_id)
    except ValueError as error:
        raise invalid_request([FieldProblem(pointer="#/Last-Event-ID", detail="is not the id of an event")]) from error
    return last_event_id


async def _stream(services: Services, view: JobView, seen: str | None, latest: str) -> AsyncIterator[str]:
    """The present job, then the events that the client has missed, then new events."""
    job_id = view.record.id
    yield RETRY
    if view.record.state.terminal:
        for event in await _missed_events(services, view, seen):
            yield event.text
        end = latest if latest != BEGINNING else f"{view.record.finished_at}-0"
        yield job_event(view, end).text
        return
    with services.event_hub.listen(job_id, latest) as listener:
        # It gets no id when older events follow, so that the client's last event id never goes back.
        yield job_event(view, None if seen else latest).text
        sent = position(seen or latest)
        for event in await _missed_events(services, view, seen or latest):
            yield event.text
            sent = position(event.id) if event.id else sent
        while True:
            try:
                async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                    new_event = await listener.events.get()
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            if new_event is None:
                return
            if new_event.id is None or position(new_event.id) > sent:
                yield new_event.text
                if new_event.last:
                    return


async def _missed_events(services: Services, view: JobView, seen: str | None) -> list[ServerSentEvent]:
    """Events since `seen`, except changes of state, which the job itself shows."""
    if seen is None:
        return []
    try:
        events = await services.event_hub.events.after(view.record.id, seen)
    except RedisError:
        return []  # a 200 is sent already; the client gets these events when it reconnects
    return [encoded for event in events if event.kind != "job" and (encoded := log_event(event, view))]


@router.get(
    "/jobs/{job_id}/preview",
    operation_id="getPreview",
    summary="See the unfinished canvas",
    response_class=Response,
    responses={200: file_response("image/jpeg", "A small picture of the canvas"), **problem_responses(404, 410, 422)},
)
async def get_preview(
    view: RequestedJob,
    services: AppServices,
    step: Annotated[
        int | None, Query(ge=0, le=100_000, description="That of a `preview` event; else the latest")
    ] = None,
) -> Response:
    """A few kB of JPEG, roughly what the latents show. One step's stays for a minute, the latest for an hour."""
    image = await services.event_hub.events.preview(view.record.id, step)
    if image is None:
        raise ProblemError("no-preview", "step: there is none (yet, or any more)")
    caching = "no-store" if step is None else "private, max-age=3600, immutable"
    return Response(base64.b64decode(image), media_type="image/jpeg", headers={"Cache-Control": caching})
