"""What the API answers, typed. Fields that a newer server adds are in `raw`; those that an older one lacks are None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})

Json = Mapping[str, Any]


class PanoramaParams(TypedDict, total=False):
    """What `POST /panoramas` takes besides the prompt; what is left out is the server's or the model's default."""

    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int | None
    guidance_scale: float | None
    seed: int | None
    model: str | None
    scheduler: str | None
    circular: bool
    view_stride: int | None
    view_weights: str | None
    shift_views: bool | None
    guidance_rescale: float | None
    guidance_start: float | None
    guidance_end: float | None
    preset: str | None
    priority: str
    metadata: Json
    webhook_url: str | None


class PanoramaRequest(PanoramaParams):
    """One item of a batch."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is: `fraction` is within 0 and 1."""

    step: int
    total_steps: int
    fraction: float
    phase: str


@dataclass(frozen=True, slots=True)
class Result:
    """The picture of a job that succeeded: where it is, and what its PNG must be."""

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
    """One job as it stood. Times are UTC; `input` has every default resolved, the seed included."""

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
        """Whether nothing will happen to it any more."""
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
            created_at=_moment(raw, "created_at"),
            started_at=_moment(raw, "started_at"),
            finished_at=_moment(raw, "finished_at"),
            expires_at=_moment(raw, "expires_at"),
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
    """Many jobs under one id; `counts` are its jobs by state, `errors` what was wrong with the items refused."""

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
        """Whether every one of its jobs has ended."""
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
            created_at=_moment(raw, "created_at"),
            canceled_at=_moment(raw, "canceled_at"),
            errors=tuple(raw.get("errors") or ()),
            links=raw.get("links") or {},
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was told of a job: `job` with the whole of it, `progress`, `preview`, or of a later version.

    `id` is None for what is only of the moment. `job` is the job with all that was told by now.
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

    def save(self, path: str | Path) -> Path:
        """Write it to a file."""
        path = Path(path)
        path.write_bytes(self.data)
        return path


def _moment(raw: Json, name: str) -> datetime | None:
    text = raw.get(name)
    return datetime.fromisoformat(text) if text else None


def _problem(raw: Json) -> Problem:
    return Problem(raw.get("type", "about:blank"), raw.get("title", ""), raw.get("status", 0), raw.get("detail", ""))
