"""A job's events as they happen, and previews of its unfinished canvas."""

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
from service.dependencies import FoundJob, Held, Services
from service.frames import KEEP_ALIVE, MEDIA_TYPE, RETRY, Frame, frame_of, job_frame
from service.problems import FieldProblem, ProblemError, invalid
from service.responses import Responses, binary, problems

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
        # Of no type: some readers of this mean one event by it, some the whole stream.
        "content": {MEDIA_TYPE: {"schema": {"title": "Server-sent events"}, "example": _EXAMPLE}},
    },
    204: {"description": "The job has ended and the client knows: it need not come back"},
}


@router.get(
    "/jobs/{job_id}/events",
    operation_id="streamEvents",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={**_STREAM, **problems(404, 410, 422)},
)
async def stream_events(
    view: FoundJob,
    services: Held,
    last_event_id: Annotated[
        str | None, Header(description="Where to go on: the id of the last event that arrived", examples=["0-0"])
    ] = None,
) -> Response:
    """Server-sent events. `job` is the whole job, first of all and at every change of state; `progress` its step,
    fraction, phase, place and estimate; `preview` the address of a small picture of the unfinished canvas. The stream
    ends after the `job` event with a terminal state.
    """
    seen = _seen(last_event_id)
    # Read before the job is looked up again: what happens in between is told twice rather than never.
    latest = await services.hub.events.last_id(view.record.id)
    view = await services.board.get(view.record.id) or view
    ended = view.record.finished_at if view.record.state.terminal else None
    if seen and ended is not None and position(seen)[0] >= ended:
        return Response(status_code=204)
    return StreamingResponse(
        _stream(services, view, seen, latest),
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _seen(last_event_id: str | None) -> str | None:
    if not last_event_id:
        return None
    try:
        position(last_event_id)
    except ValueError as error:
        raise invalid([FieldProblem(pointer="#/Last-Event-ID", detail="is not the id of an event")]) from error
    return last_event_id


async def _stream(services: Services, view: JobView, seen: str | None, latest: str) -> AsyncIterator[str]:
    """The job as it is, what the client has missed, then what happens."""
    job_id, hub = view.record.id, services.hub
    yield RETRY
    if view.record.state.terminal:
        for frame in await _missed(services, view, seen):
            yield frame.text
        end = latest if latest != BEGINNING else f"{view.record.finished_at}-0"
        yield job_frame(view, end).text
        return
    with hub.listen(job_id, latest) as listener:
        # Without an id when something is replayed behind it, so that the client's place never goes back.
        yield job_frame(view, None if seen else latest).text
        told = position(seen or latest)
        for frame in await _missed(services, view, seen or latest):
            yield frame.text
            told = position(frame.id) if frame.id else told
        while True:
            try:
                async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                    frame_or_end = await listener.frames.get()
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            if frame_or_end is None:
                return
            if frame_or_end.id is None or position(frame_or_end.id) > told:
                yield frame_or_end.text
                if frame_or_end.last:
                    return


async def _missed(services: Services, view: JobView, seen: str | None) -> list[Frame]:
    """What happened since `seen`, but for states: the job itself, told beside this, is the truth of them."""
    if seen is None:
        return []
    try:
        events = await services.hub.events.after(view.record.id, seen)
    except RedisError:
        return []  # the headers are out; the reader goes on where it was
    return [frame for event in events if event.kind != "job" and (frame := frame_of(event, view))]


@router.get(
    "/jobs/{job_id}/preview",
    operation_id="getPreview",
    summary="See the unfinished canvas",
    response_class=Response,
    responses={200: binary("image/jpeg", "A small picture of the canvas"), **problems(404, 410, 422)},
)
async def get_preview(
    view: FoundJob,
    services: Held,
    step: Annotated[
        int | None, Query(ge=0, le=100_000, description="That of a `preview` event; else the latest")
    ] = None,
) -> Response:
    """A few kB of JPEG, roughly what the latents show. One step's stays for a minute, the latest for an hour."""
    image = await services.hub.events.preview(view.record.id, step)
    if image is None:
        raise ProblemError(404, "no-preview", "There is no preview", "step: there is none (yet, or any more)")
    kept = "no-store" if step is None else "private, max-age=3600, immutable"
    return Response(base64.b64decode(image), media_type="image/jpeg", headers={"Cache-Control": kept})
