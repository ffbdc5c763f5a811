"""Times and limits that apply to every accepted job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Times and limits that apply to every accepted job.

    A claim holds for `lease_seconds` unless renewed. A job that was handed to RQ and not claimed for
    `dispatch_grace_seconds` is handed out again. A job that no living worker can paint fails after
    `model_grace_seconds`, in which a worker that is being started can say that it can. An ended job is kept for
    `retention_seconds`, and what is left of its record after that (a tombstone, answered with 410) for
    `tombstone_seconds`.
    """

    lease_seconds: float = 10.0
    dispatch_grace_seconds: float = 5.0
    max_attempts: int = 3
    model_grace_seconds: float = 10.0
    retention_seconds: int = 86_400
    tombstone_seconds: int = 7 * 86_400

    @property
    def lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    @property
    def retention_ms(self) -> int:
        return self.retention_seconds * 1000
