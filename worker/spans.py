"""The spans of one attempt: its wait in the queue, itself, and the phases that the model process has measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jobs import tracing
from jobs.record import JobRecord

_ORDER = ("load", "encode", "denoise", "decode")


@contextmanager
def attempt_span(record: JobRecord) -> Iterator[None]:
    """What is done inside belongs to the trace of the request that made the job."""
    if record.attempt == 1 and record.started_at:
        tracing.past_span(
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
    """Seconds of phases that have just ended, one after the other, as spans."""
    phases = sorted(timings, key=lambda phase: _ORDER.index(phase) if phase in _ORDER else len(_ORDER))
    begun = time.time_ns() - int(sum(timings.values()) * 1e9)
    for phase in phases:
        ended = begun + int(timings[phase] * 1e9)
        if ended > begun:
            tracing.past_span(phase, begun, ended)
        begun = ended
