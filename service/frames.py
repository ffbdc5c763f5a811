"""Server-sent events on the wire (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from jobs.board import JobView
from jobs.events import Event
from jobs.record import State
from service.answers import job_json
from service.schemas import fraction

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE = ": keep-alive\n\n"
RETRY = "retry: 1000\n\n"  # milliseconds until a client that was cut off comes back


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as text. `last` marks the one after which nothing can come. Without an id it is not replayed."""

    id: str | None
    text: str
    last: bool = False


def frame_of(event: Event, view: JobView) -> Frame | None:
    """An event of the log for its listeners; None for a state that the job has already left again."""
    match event.kind:
        case "job":
            return job_frame(view, event.id) if event.fields["state"] == view.record.state else None
        case "preview":
            step = int(event.fields["step"])
            url = f"/jobs/{event.job_id}/preview?step={step}"
            return _frame("preview", json.dumps({"step": step, "url": url}), event.id)
        case "progress":
            return _frame("progress", json.dumps(_progress(event, view)), event.id)
        case _:
            return None  # of a later version


def job_frame(view: JobView, event_id: str | None) -> Frame:
    """The whole job, exactly as GET /jobs/{id} shows it."""
    return _frame("job", job_json(view), event_id, last=view.record.state.terminal)


def place_frame(view: JobView) -> Frame:
    """How far the queue has moved. It is of the moment, so it has no id."""
    record = view.record
    total = record.total_steps or record.input.get("num_inference_steps", 0)
    return _frame("progress", json.dumps(_values(record.step, total, record.phase, view)), None)


def _progress(event: Event, view: JobView) -> dict[str, Any]:
    total = int(event.fields["total_steps"] or view.record.input.get("num_inference_steps", 0))
    return _values(int(event.fields["step"]), total, event.fields["phase"], view)


def _values(step: int, total: int, phase: str, view: JobView) -> dict[str, Any]:
    return {
        "step": step,
        "total_steps": total,
        "fraction": fraction(step, total, done=view.record.state == State.SUCCEEDED and step >= total),
        "phase": phase,
        "queue_position": view.queue_position,
        "eta_seconds": view.eta_seconds,
    }


def _frame(name: str, data: str, event_id: str | None, *, last: bool = False) -> Frame:
    # JSON holds no bare line break, so one data line carries it.
    lines = [f"event: {name}", f"data: {data}"]
    if event_id:
        lines.insert(0, f"id: {event_id}")
    return Frame(event_id, "\n".join(lines) + "\n\n", last)
