"""The job record: a hash in Redis, parsed into a frozen object. Nested values are JSON, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

Priority = Literal["interactive", "batch"]


class State(StrEnum):
    """queued -> running -> succeeded | failed | canceled; queued -> canceled; after retention, expired.

    Also queued -> failed, when no worker can paint the job.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job. Times are milliseconds on Redis's clock. `input` has every parameter, with defaults resolved. `token`
    identifies the latest attempt: two claims never have the same one."""

    id: str
    state: State
    input: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    token: str = "0"  # noqa: S105 - the token of an attempt
    phase: str = "queued"
    step: int = 0
    total_steps: int = 0
    created_at: int = 0
    started_at: int | None = None
    denoising_at: int | None = None
    stepped_at: int | None = None
    finished_at: int | None = None
    expires_at: int | None = None
    revision: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    timings: dict[str, float] | None = None
    notices: list[dict[str, str]] = field(default_factory=list)
    cancel: bool = False
    owner: str = ""
    priority: Priority = "interactive"
    batch: str = ""
    batch_index: int | None = None
    fingerprint: str = ""
    traceparent: str = ""
    webhook_url: str = ""
    deleted: bool = False
    sequence: int = 0
    network_samples: int | None = None
    job_faults: int = 0
    worker_faults: int = 0
    dependency_faults: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """How many attempts failed, by whose fault that was (see `jobs.faults`)."""
        return {"job": self.job_faults, "worker": self.worker_faults, "dependency": self.dependency_faults}


_JSON = ("input", "metadata", "result", "error", "timings", "notices")
_INTEGERS = (
    "attempt",
    "step",
    "total_steps",
    "created_at",
    "started_at",
    "denoising_at",
    "stepped_at",
    "finished_at",
    "expires_at",
    "sequence",
    "batch_index",
    "job_faults",
    "worker_faults",
    "dependency_faults",
    "network_samples",
)


def read_record(job_id: str, fields: Mapping[str, str]) -> JobRecord:
    """Parse a record. Unknown fields are ignored, so that different versions can run side by side."""
    values: dict[str, Any] = {name: json.loads(fields[name]) for name in _JSON if name in fields}
    values.update({name: int(fields[name]) for name in _INTEGERS if name in fields})
    if (
        fields.get("priority") == "batch"
    ):  # any other value comes from a later version; those jobs wait with the interactive ones
        values["priority"] = "batch"
    for name in ("phase", "revision", "owner", "batch", "fingerprint", "traceparent", "webhook_url"):
        if name in fields:
            values[name] = fields[name]
    values["token"] = token_of(fields)
    values.update({name: name in fields for name in ("cancel", "deleted")})
    return JobRecord(id=job_id, state=State(fields["state"]), **values)


def token_of(fields: Mapping[str, str | None]) -> str:
    """The token of the latest attempt, as token_of() in prelude.lua: its number and its claim's random nonce."""
    number, fence = fields.get("token") or "0", fields.get("fence") or ""
    return fence if fence.partition("-")[0] == number else number


def pairs(values: Mapping[str, Any]) -> list[str | int]:
    """Fields and values as a flat list for the scripts. Values other than strings and integers become JSON."""
    flat: list[str | int] = []
    for name, value in values.items():
        flat += [name, value if isinstance(value, str | int) else json.dumps(value, separators=(",", ":"))]
    return flat
