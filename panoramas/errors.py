"""The exceptions of the client.

PanoramasError
├── InvalidArgumentError            an argument cannot be sent; nothing was sent (also a ValueError)
├── ServiceError                    the service refused the request, or does not respond
│   ├── APIConnectionError          no response
│   ├── BadRequestError             400
│   ├── AuthenticationError         401
│   ├── PermissionDeniedError       403
│   ├── NotFoundError               404
│   ├── ConflictError               409
│   ├── GoneError                   410
│   ├── PayloadTooLargeError        413
│   ├── UnsupportedMediaTypeError   415
│   ├── UnprocessableEntityError    422
│   ├── RateLimitError              429
│   └── InternalServerError         500 and every other 5xx
│       ├── ServiceUnavailableError 502, 503, 504
│       └── InsufficientStorageError 507
├── JobFailed                       the job ended without a picture
├── WaitTimeout                     the job had not ended in time; it continues (also a TimeoutError)
├── BatchWaitTimeout                the same of a batch
└── WebhookVerificationError        a call is not genuine
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from panoramas.results import Batch, Job

if TYPE_CHECKING:  # receivers of webhooks need no HTTP client
    import httpx


class PanoramasError(Exception):
    """Base class of every exception that the client raises."""


class InvalidArgumentError(PanoramasError, ValueError):
    """An argument cannot be sent as it is. The message never repeats a secret."""


class WebhookVerificationError(PanoramasError):
    """A call was not signed with this secret, or is too old or from the future."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """The fault of one field. `pointer` is a JSON pointer such as `#/width`, `index` the number of the batch item."""

    pointer: str
    detail: str
    index: int | None = None


class ServiceError(PanoramasError):
    """The service responded with a problem (RFC 9457), or not at all. Its subclasses stand for statuses.

    Attributes:
        status: HTTP status; None if there was no response.
        problem: the problem details of the response; empty if it had none.
        type: the problem's type, such as `urn:panoramas:problem:queue-full`; "" if it had none.
        errors: one entry for each field at fault.
        retry_after: seconds to wait, if the service named any.
        request_id: the response's X-Request-Id, which a proxy or a newer server may set; None if it had none.
        job: after `generate`, the job if it was accepted: it continues, and its picture can still be fetched.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        problem: dict[str, Any] | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after, self.request_id = status, retry_after, request_id
        self.problem = problem or {}
        self.type = str(self.problem.get("type", ""))
        self.errors = _field_errors(self.problem)
        self.job: Job | None = None

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
        return class_of(response.status_code)(
            "\n".join(lines) or ". ".join(texts) or _without_details(response),
            status=response.status_code,
            problem=problem,
            retry_after=retry_after(response),
            request_id=response.headers.get("X-Request-Id"),
        )


class APIConnectionError(ServiceError):
    """There was no response: no connection, a cut one, or none within the time-out."""


class BadRequestError(ServiceError):
    """400: the request is malformed."""


class AuthenticationError(ServiceError):
    """401: no API key, or one that the service does not know."""


class PermissionDeniedError(ServiceError):
    """403: the key may not do this."""


class NotFoundError(ServiceError):
    """404: there is no such job, batch or preview, or it belongs to another key."""


class ConflictError(ServiceError):
    """409: the state of the job does not allow it; if `retry_after` is set, it will later."""


class GoneError(ServiceError):
    """410: the job has expired or was deleted."""


class PayloadTooLargeError(ServiceError):
    """413: the body is larger than the service takes."""


class UnsupportedMediaTypeError(ServiceError):
    """415: the service does not understand bodies of this type."""


class UnprocessableEntityError(ServiceError):
    """422: a field is not valid; `errors` names it."""


class RateLimitError(ServiceError):
    """429: the queue is full, or the key's rate limit is reached."""


class InternalServerError(ServiceError):
    """5xx: a fault of the service."""


class ServiceUnavailableError(InternalServerError):
    """502, 503, 504: Redis, the image store or the service itself cannot be reached."""


class InsufficientStorageError(InternalServerError):
    """507: no room for pictures or jobs; nothing was accepted."""


_CLASSES: dict[int, type[ServiceError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    502: ServiceUnavailableError,
    503: ServiceUnavailableError,
    504: ServiceUnavailableError,
    507: InsufficientStorageError,
}


def class_of(status: int) -> type[ServiceError]:
    """The exception that stands for a status."""
    return _CLASSES.get(status, InternalServerError if status >= 500 else ServiceError)


class JobFailed(PanoramasError):
    """The job ended without a picture; `job` is its final state."""

    def __init__(self, job: Job) -> None:
        reason = job.error and (job.error.detail or job.error.title)
        super().__init__(reason or f"the job {'was canceled' if job.state == 'canceled' else f'has {job.state}'}")
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions are pickled with their message as the only argument
        return type(self), (self.job,)


class WaitTimeout(PanoramasError, TimeoutError):
    """The job had not ended in time; it continues. `job` is its last known state."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is still {job.state}")
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job,)


class BatchWaitTimeout(PanoramasError, TimeoutError):
    """The batch had not ended in time; it continues. `batch` is its last known state."""

    def __init__(self, batch: Batch) -> None:
        counts = ", ".join(f"{count} {state}" for state, count in batch.counts.items() if count)
        super().__init__(f"batch {batch.id} has not ended: {counts}")
        self.batch = batch

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.batch,)


def retry_after(response: httpx.Response) -> float | None:
    """Seconds in the header Retry-After (RFC 9110, section 10.2.3); None if it is missing or unreadable."""
    text = response.headers.get("Retry-After", "")
    try:
        seconds = float(text)
        return max(seconds, 0.0) if seconds < float("inf") else None
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def _without_details(response: httpx.Response) -> str:
    text = f"HTTP {response.status_code} {response.reason_phrase}".rstrip()
    if response.is_redirect:
        return f"{text}: the service is at {response.headers.get('Location', 'another address')}"
    return text


def _field_errors(problem: dict[str, Any]) -> tuple[FieldError, ...]:
    listed = problem.get("errors")
    return tuple(
        FieldError(str(error.get("pointer", "#")), str(error.get("detail", "")), error.get("index"))
        for error in (listed if isinstance(listed, list) else ())
        if isinstance(error, dict)
    )
