"""A job's events in the format of server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from jobs.board import JobView
from jobs.events import Event
from jobs.record import State
from service.job_response import job_json
from service.links import link
from service.schemas.jobs import completed_fraction

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE = ": keep-alive\n\n"
RETRY = "retry: 1000\n\n"  # milliseconds after which a disconnected client reconnects


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event as text. `last` marks the final event of a job. An event without an id is never replayed."""

    id: str | None
    text: str
    last: bool = False


def log_event(event: Event, view: JobView) -> ServerSentEvent | None:
    """An event of the log for its listeners; None for a change to a state that the job has left since."""
    match event.kind:
        case "job":
            return job_event(view, event.id) if event.fields["state"] == view.record.state else None
        case "preview":
            step = int(event.fields["step"])
            url = link(f"/jobs/{event.job_id}/preview?step={step}")
            return _encode("preview", json.dumps({"step": step, "url": url}), event.id)
        case "progress":
            return _encode("progress", json.dumps(_logged_progress(event, view)), event.id)
        case _:
            return None  # written by a later version


def job_event(view: JobView, event_id: str | None) -> ServerSentEvent:
    """The whole job, exactly as GET /jobs/{id} returns it."""
    return _encode("job", job_json(view), event_id, last=view.record.state.terminal)


def queue_position_event(view: JobView) -> ServerSentEvent:
    """A queued job's present position. It has no id, because an old position is not worth a replay."""
    record = view.record
    total = record.total_steps or record.input.get("num_inference_steps", 0)
    return _encode("progress", json.dumps(_progress(record.step, total, record.phase, view)), None)


def _logged_progress(event: Event, view: JobView) -> dict[str, Any]:
    total = int(event.fields["total_steps"] or view.record.input.get("num_inference_steps", 0))
    return _progress(int(event.fields["step"]), total, event.fields["phase"], view)


def _progress(step: int, total: int, phase: str, view: JobView) -> dict[str, Any]:
    done = view.record.state == State.SUCCEEDED and step >= total
    return {
        "step": step,
        "total_steps": total,
        "fraction": completed_fraction(step, total, done=done),
        "phase": phase,
        "queue_position": view.queue_position,
        "eta_seconds": view.eta_seconds,
    }


def _encode(name: str, data: str, event_id: str | None, *, last: bool = False) -> ServerSentEvent:
    # JSON escapes line breaks, so one `data` line is enough.
    lines = [f"event: {name}", f"data: {data}"]
    if event_id:
        lines.insert(0, f"id: {event_id}")
    return ServerSentEvent(event_id, "\n".join(lines) + "\n\n", last)
