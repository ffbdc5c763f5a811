"""The API's JSON: what comes in and what goes out. Field names are diffusers' own."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from jobs.board import JobView
from jobs.record import Priority, State
from recipe.fields import DEFAULTS, Recipe
from recipe.fields import Field as RecipeField
from recipe.models import ModelSpec
from recipe.presets import PRESETS
from recipe.request import REQUEST_FIELDS, resolve

ID_PATTERN = "^[0-9a-f]{32}$"

MAX_METADATA_BYTES = 16 * 1024


def _small_json(value: dict[str, Any]) -> dict[str, Any]:
    """Fits into the record, and goes out as it came in."""
    size = len(json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"must be at most {MAX_METADATA_BYTES} bytes of JSON, not {size}")
    return value


Metadata = Annotated[dict[str, Any], AfterValidator(_small_json)]


def _wire_field(spec: RecipeField, default: Any) -> tuple[Any, Any]:
    """A field of the recipe as pydantic declares it: its type and its default with range and description."""
    minimum = min((spec.minimum, *spec.as_null)) if spec.as_null and spec.minimum is not None else spec.minimum
    limits: dict[str, Any] = {"ge": minimum, "le": spec.maximum, "max_length": spec.max_length}
    if spec.kind is float:
        limits["allow_inf_nan"] = False
    if spec.required:
        limits["min_length"] = 1
    kind: Any = Literal[spec.choices] if spec.choices else spec.kind
    limited = Annotated[kind, Field(**{name: limit for name, limit in limits.items() if limit is not None})]
    if spec.nullable:
        return limited | None, Field(None, description=spec.help)
    return limited, Field(... if spec.required else default, description=spec.help)


_WIRE_FIELDS: dict[str, Any] = {name: _wire_field(spec, DEFAULTS.get(name)) for name, spec in REQUEST_FIELDS.items()}
_WireRecipe: Any = create_model("_WireRecipe", **_WIRE_FIELDS)


class PanoramaRequest(_WireRecipe):
    """What to paint. Every field but `prompt` may be left out; null means the default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    if TYPE_CHECKING:
        model: str | None

    priority: Priority = Field(
        "interactive",
        description="`batch` is for work that nobody waits for: where both wait, four interactive jobs go before one",
    )
    metadata: Metadata = Field(
        default_factory=dict,
        description="Yours: any JSON object of up to 16 KiB, returned with the job, never interpreted",
    )
    webhook_url: str | None = Field(
        None,
        max_length=2048,
        description="Called once the job has ended, signed by Standard Webhooks; see `panoramaEnded`. A public https"
        " address, unless this server allows others",
        json_schema_extra={"format": "uri", "pattern": "^https?://"},
    )

    def asked_for(self) -> dict[str, Any]:
        """What a repeated submit is compared by. A field left out and its default are the same, whatever fields a later
        version adds."""
        return self.model_dump(exclude_defaults=True)

    def resolve(self, spec: ModelSpec) -> Recipe:
        """Every default filled in, the seed drawn.

        Raises:
            RecipeError: for what the model cannot paint.
        """
        return resolve(self.model_dump(include=set(REQUEST_FIELDS)), spec)


def _resolved_field(name: str, spec: RecipeField) -> tuple[Any, Any]:
    return spec.kind, (... if spec.since_first else DEFAULTS[name])


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


class ModelInfo(BaseModel):
    """One model of the allow-list and its defaults."""

    name: str
    default: bool
    window_px: int = Field(description="Side of one view in pixels: the smallest canvas along either axis")
    latent_factor: int = Field(description="Sizes are multiples of this")
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]] = Field(description="What each preset fills in for this model")


class Models(BaseModel):
    """What can be asked for on this server."""

    items: list[ModelInfo]
    schedulers: list[str]
    view_weights: list[str]
    limits: dict[str, int]


class Health(BaseModel):
    """State of a process."""

    status: Literal["ok"]
    workers: int | None = Field(None, description="Worker processes that are alive, where that was asked for")


def job_out(view: JobView) -> Job:
    """A record as clients see it."""
    record = view.record
    path = f"/jobs/{record.id}"
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
            step=total if done else record.step,  # the last steps of a quick job may end before they are told
            total_steps=total,
            fraction=fraction(record.step, total, done=done),
            phase=record.phase,
        ),
        queue_position=view.queue_position,
        eta_seconds=view.eta_seconds,
        attempt=record.attempt,
        created_at=moment(record.created_at),
        started_at=moment(record.started_at),
        finished_at=moment(record.finished_at),
        expires_at=moment(record.expires_at),
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


def fraction(step: int, total: int, *, done: bool) -> float:
    """How much of a job is done, within 0 and 1."""
    return 1.0 if done else round(min(step / total, 1), 4) if total else 0.0


def model_info(spec: ModelSpec, *, default: bool) -> ModelInfo:
    """A model of the allow-list as clients see it."""
    facts = spec.facts()
    return ModelInfo(
        name=spec.name,
        default=default,
        window_px=facts.window_px,
        latent_factor=facts.latent_factor,
        defaults=spec.defaults,
        presets={name: preset.values(facts) for name, preset in PRESETS.items()},
    )


def moment(milliseconds: int | None) -> Any:
    """Milliseconds since the epoch as a UTC time."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def retry_after(view: JobView) -> dict[str, str]:
    """When to look again: half the estimate, within 1 and 30 seconds."""
    seconds = 2.0 if view.eta_seconds is None else view.eta_seconds / 2
    return {"Retry-After": str(min(max(math.ceil(seconds), 1), 30))}
