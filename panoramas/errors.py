"""What can go wrong for a client.

PanoramasError
├── ServiceError   the service refused, or does not answer
├── JobFailed      the job ended without a picture
└── WaitTimeout    the job had not ended in time; it goes on
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from panoramas.results import Job


class PanoramasError(Exception):
    """Anything that a client raises."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: `pointer` is a JSON pointer such as `#/width`, `index` the item of a batch."""

    pointer: str
    detail: str
    index: int | None = None


class ServiceError(PanoramasError):
    """The service answered with a problem (RFC 9457), or not at all.

    Attributes:
        status: of HTTP; None when there was no answer.
        problem: the problem details as they came; empty when there were none.
        errors: every field at fault.
        retry_after: seconds that the service asks to wait; None where it does not.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        problem: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after
        self.problem = problem or {}
        self.errors = _field_errors(self.problem)

    @classmethod
    def of(cls, response: httpx.Response) -> ServiceError:
        """From an answer that is no success, and may come from a proxy that knows no problems."""
        try:
            problem = response.json()
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {}
        lines = [f"{error.pointer}: {error.detail}" for error in _field_errors(problem)]
        told = [str(problem[name]) for name in ("title", "detail") if problem.get(name)]
        message = "\n".join(lines) or ". ".join(told) or f"HTTP {response.status_code} {response.reason_phrase}"
        return cls(message, status=response.status_code, problem=problem, retry_after=retry_after(response))


class JobFailed(PanoramasError):
    """The job ended without a picture; `job` is its last state."""

    def __init__(self, job: Job) -> None:
        told = job.error and (job.error.detail or job.error.title)
        super().__init__(told or f"the job {'was canceled' if job.state == 'canceled' else f'has {job.state}'}")
        self.job = job


class WaitTimeout(PanoramasError, TimeoutError):
    """The job had not ended in time; it goes on. `job` is how it stood."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is still {job.state}")
        self.job = job


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks for (RFC 9110, section 10.2.3); None where it does not."""
    text = response.headers.get("Retry-After", "")
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def _field_errors(problem: dict[str, Any]) -> tuple[FieldError, ...]:
    told = problem.get("errors")
    return tuple(
        FieldError(str(error.get("pointer", "#")), str(error.get("detail", "")), error.get("index"))
        for error in (told if isinstance(told, list) else ())
        if isinstance(error, dict)
    )
