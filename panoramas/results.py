"""The API's responses as typed objects. Fields that a newer server adds are in `raw`; fields that it lacks are None."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is; `fraction` is between 0 and 1."""

    step: int
    total_steps: int
    fraction: float
    phase: str


@dataclass(frozen=True, slots=True)
class Result:
    """The picture of a job that succeeded: its address, and the digest and size of its PNG."""

    url: str
    sha256: str
    bytes: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a job failed (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Job:
    """The state of one job when it was fetched. Times are UTC; in `input` every default is resolved, also the seed."""

    id: str
    state: str
    progress: Progress
    queue_position: int | None
    eta_seconds: float | None
    attempt: int
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    input: Json | None
    result: Result | None
    error: Problem | None
    timings: Json | None
    notices: tuple[Json, ...]
    model: Json | None
    metadata: Json
    batch_id: str | None
    batch_index: int | None
    links: Json
    raw: Json = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether the job is in a terminal state."""
        return self.state in TERMINAL

    @classmethod
    def of(cls, raw: Json) -> Job:
        """From the API's JSON."""
        progress, result, error = raw.get("progress") or {}, raw.get("result"), raw.get("error")
        return cls(
            id=raw["id"],
            state=raw["state"],
            progress=Progress(
                step=progress.get("step", 0),
                total_steps=progress.get("total_steps", 0),
                fraction=progress.get("fraction", 0.0),
                phase=progress.get("phase", ""),
            ),
            queue_position=raw.get("queue_position"),
            eta_seconds=raw.get("eta_seconds"),
            attempt=raw.get("attempt", 0),
            created_at=_time(raw, "created_at"),
            started_at=_time(raw, "started_at"),
            finished_at=_time(raw, "finished_at"),
            expires_at=_time(raw, "expires_at"),
            input=raw.get("input"),
            result=Result(**{name: result[name] for name in Result.__slots__}) if result else None,
            error=_problem(error) if error else None,
            timings=raw.get("timings"),
            notices=tuple(raw.get("notices") or ()),
            model=raw.get("model"),
            metadata=raw.get("metadata") or {},
            batch_id=raw.get("batch_id"),
            batch_index=raw.get("batch_index"),
            links=raw.get("links") or {},
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Many jobs under one id. `counts` has the number of jobs by state, `errors` the faults of refused items."""

    id: str
    state: str
    total: int
    accepted: int
    refused: int
    counts: Mapping[str, int]
    eta_seconds: float | None
    created_at: datetime | None
    canceled_at: datetime | None
    errors: tuple[Json, ...]
    links: Json
    raw: Json = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether all of its jobs have ended."""
        return self.state == "ended"

    @classmethod
    def of(cls, raw: Json) -> Batch:
        """From the API's JSON."""
        return cls(
            id=raw["id"],
            state=raw["state"],
            total=raw.get("total", 0),
            accepted=raw.get("accepted", 0),
            refused=raw.get("refused", 0),
            counts=raw.get("counts") or {},
            eta_seconds=raw.get("eta_seconds"),
            created_at=_time(raw, "created_at"),
            canceled_at=_time(raw, "canceled_at"),
            errors=tuple(raw.get("errors") or ()),
            links=raw.get("links") or {},
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Webhook:
    """How the call of a job's webhook stands. Times are UTC.

    `state` is `waiting` for the job's end, `pending`, `sending`, `delivered`, `failed` or `disabled`.
    """

    id: str
    url: str
    state: str
    attempts: int
    last_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    next_attempt_at: datetime | None
    raw: Json = field(repr=False)

    @classmethod
    def of(cls, raw: Json) -> Webhook:
        """From the API's JSON."""
        return cls(
            id=raw["id"],
            url=raw["url"],
            state=raw["state"],
            attempts=raw.get("attempts", 0),
            last_attempt_at=_time(raw, "last_attempt_at"),
            last_status=raw.get("last_status"),
            last_error=raw.get("last_error"),
            next_attempt_at=_time(raw, "next_attempt_at"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job's stream. `name` is `job`, `progress`, `preview`, or a kind that a newer server added.

    `id` is None for an event that is not replayed. `job` is the job with all events so far applied.
    """

    name: str
    data: Json
    id: str | None
    job: Job


@dataclass(frozen=True, slots=True)
class Picture:
    """A panorama and the job that painted it."""

    job: Job
    data: bytes = field(repr=False)
    media_type: str = "image/png"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a file, which appears when it is complete.

        Raises:
            InvalidArgumentError: the extension is that of another format: ask `generate` or `image` for it.
            OSError: it cannot be written.
        """
        from panoramas.files import replacing
        from panoramas.formats import check_extension

        path = Path(path)
        check_extension(path, self.media_type)
        with replacing(path) as file:
            file.write(self.data)
        return path


def _time(raw: Json, name: str) -> datetime | None:
    text = raw.get(name)
    return datetime.fromisoformat(text) if text else None


def _problem(raw: Json) -> Problem:
    return Problem(raw.get("type", "about:blank"), raw.get("title", ""), raw.get("status", 0), raw.get("detail", ""))
