"""The exceptions of the client.

PanoramasError
├── ServiceError   the service refused the request, or does not respond
├── JobFailed      the job ended without a picture
└── WaitTimeout    the job had not ended in time; it continues
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from panoramas.results import Job


class PanoramasError(Exception):
    """Base class of every exception that the client raises."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """The fault of one field. `pointer` is a JSON pointer such as `#/width`, `index` the number of the batch item."""

    pointer: str
    detail: str
    index: int | None = None


class ServiceError(PanoramasError):
    """The service responded with a problem (RFC 9457), or not at all.

    Attributes:
        status: HTTP status; None if there was no response.
        problem: the problem details of the response; empty if it had none.
        errors: one entry for each field at fault.
        retry_after: seconds to wait, if the service named any.
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
        """From an unsuccessful response, which may come from a proxy and contain no problem details."""
        try:
            problem = response.json()
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {}
        lines = [f"{error.pointer}: {error.detail}" for error in _field_errors(problem)]
        texts = [str(problem[name]) for name in ("title", "detail") if problem.get(name)]
        message = "\n".join(lines) or ". ".join(texts) or f"HTTP {response.status_code} {response.reason_phrase}"
        return cls(message, status=response.status_code, problem=problem, retry_after=retry_after(response))


class JobFailed(PanoramasError):
    """The job ended without a picture; `job` is its final state."""

    def __init__(self, job: Job) -> None:
        reason = job.error and (job.error.detail or job.error.title)
        super().__init__(reason or f"the job {'was canceled' if job.state == 'canceled' else f'has {job.state}'}")
        self.job = job


class WaitTimeout(PanoramasError, TimeoutError):
    """The job had not ended in time; it continues. `job` is its last known state."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is still {job.state}")
        self.job = job


def retry_after(response: httpx.Response) -> float | None:
    """Seconds in the header Retry-After (RFC 9110, section 10.2.3); None if it is missing or unreadable."""
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
    listed = problem.get("errors")
    return tuple(
        FieldError(str(error.get("pointer", "#")), str(error.get("detail", "")), error.get("index"))
        for error in (listed if isinstance(listed, list) else ())
        if isinstance(error, dict)
    )
