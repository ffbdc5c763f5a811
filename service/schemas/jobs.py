"""A job, as clients see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, create_model

from jobs.board import JobView
from jobs.record import Priority, State
from recipe.field import Field as RecipeField
from recipe.field import fields_of
from recipe.fields import DEFAULTS
from recipe.request import REQUEST_FIELDS
from service.links import link
from service.schemas.common import ID_PATTERN, utc_time


def _resolved_field(name: str, spec: RecipeField) -> tuple[Any, Any]:
    default: Any = ... if spec.since_first else DEFAULTS[name]
    if spec.max_items is None:
        return spec.kind, default
    fields: dict[str, Any] = {each: (own.kind, ...) for each, own in fields_of(spec.kind).items()}
    item: Any = create_model(f"Resolved{spec.kind.__name__}", **fields)
    return list[item], list(default)


_RESOLVED_FIELDS: dict[str, Any] = {
    name: _resolved_field(name, spec) for name, spec in REQUEST_FIELDS.items() if name != "preset"
}
_ResolvedRecipe: Any = create_model("_ResolvedRecipe", **_RESOLVED_FIELDS)


class ResolvedInput(_ResolvedRecipe):
    """The input with every default resolved: sent again, it paints the same picture."""


class Progress(BaseModel):
    """How far the present attempt is."""

    step: int
    total_steps: int
    fraction: float = Field(ge=0, le=1)
    phase: str = Field(examples=["denoising"])


class Result(BaseModel):
    """The picture of a job that succeeded."""

    url: str
    sha256: str
    bytes: int
    width: int
    height: int


class JobError(BaseModel):
    """Why a job failed, as problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class JobModel(BaseModel):
    """The model of a job; `revision` is known once it has painted."""

    name: str
    revision: str | None


class Notice(BaseModel):
    """Something to know of a picture that was painted all the same, such as a prompt that was cut."""

    code: str = Field(examples=["prompt-truncated"])
    detail: str


class Job(BaseModel):
    """One job as it stands."""

    id: str = Field(pattern=ID_PATTERN)
    state: State
    priority: Priority
    batch_id: str | None = Field(description="The batch that it is an item of")
    batch_index: int | None = Field(description="Which item of it, from 0")
    progress: Progress
    queue_position: int | None = Field(description="Jobs before this one; null once it runs")
    eta_seconds: float | None = Field(description="Estimated seconds to the end; null where nothing is known")
    network_samples: int | None = Field(
        description="What it costs: the samples that the network predicts for it, its views times steps, each view once"
        " for every region that it touches, twice with guidance; null for a job of an earlier version"
    )
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    input: ResolvedInput | None = Field(description="null once expired")
    result: Result | None
    error: JobError | None
    timings: dict[str, float] | None = Field(description="Seconds a phase took; `load` is 0 when the model was warm")
    notices: list[Notice]
    model: JobModel | None
    metadata: dict[str, Any]
    links: dict[str, str]


class Jobs(BaseModel):
    """One page of jobs."""

    items: list[Job]


def job_schema(view: JobView) -> Job:
    """The wire form of a job."""
    record = view.record
    path = link(f"/jobs/{record.id}")
    result = record.result and {**record.result, "url": f"{path}/image"}
    total = record.total_steps or record.input.get("num_inference_steps", 0)
    done = record.state == State.SUCCEEDED
    return Job(
        id=record.id,
        state=record.state,
        priority=record.priority,
        batch_id=record.batch or None,
        batch_index=record.batch_index,
        progress=Progress(
            step=total if done else record.step,  # a quick job may end before its last steps are reported
            total_steps=total,
            fraction=completed_fraction(record.step, total, done=done),
            phase=record.phase,
        ),
        queue_position=view.queue_position,
        eta_seconds=view.eta_seconds,
        network_samples=record.network_samples,
        attempt=record.attempt,
        created_at=utc_time(record.created_at),
        started_at=utc_time(record.started_at),
        finished_at=utc_time(record.finished_at),
        expires_at=utc_time(record.expires_at),
        input=ResolvedInput(**record.input) if record.input else None,
        result=Result(**result) if result else None,
        error=JobError(**record.error) if record.error else None,
        timings=record.timings,
        notices=[Notice(**notice) for notice in record.notices],
        model=JobModel(name=record.input["model"], revision=record.revision) if record.input else None,
        metadata=record.metadata,
        links={
            "self": path,
            **{name: f"{path}/{name}" for name in ("image", "thumbnail", "events", "preview", "cancel")},
            **({"webhook": f"{path}/webhook"} if record.webhook_url else {}),
        },
    )


def completed_fraction(step: int, total: int, *, done: bool) -> float:
    """Completed share of a job's steps, from 0 to 1."""
    return 1.0 if done else round(min(step / total, 1), 4) if total else 0.0
