"""The trace spans of one attempt: its time in the queue, the attempt, and the phases that the model measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jobs import tracing
from jobs.record import JobRecord

_ORDER = ("load", "encode", "denoise", "decode")


@contextmanager
def attempt_span(record: JobRecord) -> Iterator[None]:
    """A span around one attempt, in the trace of the request that submitted the job."""
    if record.attempt == 1 and record.started_at:
        tracing.finished_span(
            "queued", record.created_at * 1_000_000, record.started_at * 1_000_000, parent=record.traceparent
        )
    with tracing.span(
        "attempt",
        kind="consumer",
        parent=record.traceparent,
        panoramas__job_id=record.id,
        panoramas__attempt=record.attempt,
        panoramas__model=record.input.get("model", ""),
    ):
        yield


def phase_spans(timings: Mapping[str, float]) -> None:
    """Spans of phases that ran one after the other and have just ended; `timings` are seconds by phase."""
    phases = sorted(timings, key=lambda phase: _ORDER.index(phase) if phase in _ORDER else len(_ORDER))
    start = time.time_ns() - int(sum(timings.values()) * 1e9)
    for phase in phases:
        end = start + int(timings[phase] * 1e9)
        if end > start:
            tracing.finished_span(phase, start, end)
        start = end
