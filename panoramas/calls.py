"""Every call of the API without input or output: what to send, how to read the response, when to retry.

A call is a generator. When it yields a `Request`, send it the response or the transport's error; when it yields a
`Pause`, send it None after that many seconds. It returns the result of the call. `panoramas.client` and
`panoramas.async_client` are the two loops that run such generators.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import time
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from panoramas.errors import JobFailed, ServiceError, WaitTimeout, retry_after
from panoramas.results import Batch, Job, Picture

T = TypeVar("T")
log = logging.getLogger("panoramas")

MEDIA_TYPES = {name: f"image/{name}" for name in ("png", "webp", "jpeg", "avif")}

_BUSY = frozenset({429, 502, 503, 504})  # retried: nothing was done, or doing it again changes nothing
_BUSY_SUBMIT = _BUSY | {409, 425, 507}  # also: the same key is still in flight; no room at the moment
_LONG_POLL_SECONDS = 20
_LONGEST_PAUSE = 8.0  # if the server names none


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. It is always safe to retry: it reads, is idempotent, or carries an Idempotency-Key.

    `held` is for how many seconds the server may delay the response; `accepted` are statuses besides 2xx that count as
    success.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    held: float = 0.0
    busy: frozenset[int] = _BUSY
    accepted: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for that many seconds."""

    seconds: float


Outcome = httpx.Response | httpx.TransportError | None
Call = Generator[Request | Pause, Outcome, T]


class Patience:
    """The retries of one call, for a limited time from now.

    `pause` gives the seconds until the next try: the server's Retry-After, or a random share of a time that doubles,
    so that many clients do not return at the same moment.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._longest = 0.5
        self._warned = False

    def pause(self, outcome: Outcome, path: str) -> float:
        """Raises:
        ServiceError: when the time is over.
        """
        requested = retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        if requested is None:
            seconds = random.uniform(self._longest / 2, self._longest)
            self._longest = min(self._longest * 2, _LONGEST_PAUSE)
        else:
            seconds = requested + random.uniform(0, min(0.1 * requested, 1))
        hopeless = isinstance(outcome, httpx.UnsupportedProtocol)
        left = self._deadline - time.monotonic()
        if not hopeless and seconds <= left:
            if not self._warned:  # the user should know why nothing happens
                log.warning("%s: %s; trying again for up to %.0f s", path, _describe(outcome), left)
                self._warned = True
            return seconds
        if isinstance(outcome, httpx.Response):
            raise ServiceError.of(outcome)
        raise ServiceError(f"the service does not respond: {_describe(outcome)} ({path})") from outcome


def _describe(outcome: Outcome) -> str:
    if isinstance(outcome, httpx.Response):
        return f"HTTP {outcome.status_code} {outcome.reason_phrase}"
    return str(outcome) or type(outcome).__name__


def exchange(request: Request, patience: float) -> Call[httpx.Response]:
    """Send the request again until the response is final, that is, not one of `request.busy`.

    Raises:
        ServiceError
    """
    tries = Patience(patience)
    while True:
        outcome = yield request
        if isinstance(outcome, httpx.Response) and outcome.status_code not in request.busy:
            if outcome.is_success or outcome.status_code in request.accepted:
                return outcome
            raise ServiceError.of(outcome)
        yield Pause(tries.pause(outcome, request.path))


def submit(params: Mapping[str, Any], key: str | None, patience: float) -> Call[Job]:
    """`POST /panoramas`."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key or uuid.uuid4().hex}
    request = Request("POST", "/panoramas", headers, _json(params), busy=_BUSY_SUBMIT)
    response = yield from exchange(request, patience)
    return Job.of(_body(response))


def get(job: Job | str, patience: float) -> Call[Job]:
    """`GET /jobs/{id}`."""
    response = yield from exchange(Request("GET", path_of(job)), patience)
    return Job.of(_body(response))


def wait(job: Job | str, timeout: float | None, patience: float) -> Call[Job]:
    """Poll until the job has ended. The server delays each response (`Prefer: wait`), which shows the end at once."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _LONG_POLL_SECONDS if deadline is None else deadline - time.monotonic()
        held = max(min(int(left), _LONG_POLL_SECONDS), 0)
        request = Request("GET", path_of(job), {"Prefer": f"wait={held}"}, held=held)
        response = yield from exchange(request, patience if deadline is None else min(patience, max(left, 1.0)))
        seen = Job.of(_body(response))
        if seen.state == "succeeded":
            return seen
        if seen.ended:
            raise JobFailed(seen)
        left = _LONG_POLL_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(seen)
        if response.headers.get("Preference-Applied", "wait=0") == "wait=0":  # the server did not delay it
            yield Pause(min(retry_after(response) or 1.0, left))


def generate(params: Mapping[str, Any], timeout: float | None, patience: float) -> Call[Picture]:
    """Submit, wait, and fetch."""
    accepted = yield from submit(params, None, patience)
    done = yield from wait(accepted, timeout, patience)
    return (yield from picture(done, "png", patience))


def picture(job: Job | str, form: str, patience: float) -> Call[Picture]:
    """`GET /jobs/{id}/image` in one format; a PNG must match the job's sha256."""
    if form not in MEDIA_TYPES:
        raise ValueError(f"format: one of {', '.join(MEDIA_TYPES)}, not {form!r}")
    if isinstance(job, str) or job.result is None:
        job = yield from get(job, patience)
    response = yield from exchange(Request("GET", f"{path_of(job)}/image", {"Accept": MEDIA_TYPES[form]}), patience)
    data = response.content
    if form == "png" and job.result and hashlib.sha256(data).hexdigest() != job.result.sha256:
        raise ServiceError("the image received does not match its sha256", status=response.status_code)
    return Picture(job, data, response.headers.get("Content-Type", MEDIA_TYPES[form]))


def content(path: str, patience: float) -> Call[bytes]:
    """`GET` of a path: the body."""
    response = yield from exchange(Request("GET", path), patience)
    return response.content


def cancel(job: Job | str, patience: float) -> Call[Job]:
    """`POST /jobs/{id}/cancel`."""
    response = yield from exchange(Request("POST", f"{path_of(job)}/cancel"), patience)
    return Job.of(_body(response))


def delete(job: Job | str, patience: float) -> Call[None]:
    """`DELETE /jobs/{id}`. 410 counts as success: an earlier try, whose response was lost, deleted it."""
    yield from exchange(Request("DELETE", path_of(job), accepted=frozenset({410})), patience)


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and the path of the next page if there is one."""

    jobs: Sequence[Job]
    next: str | None


def first_page(state: str | None, batch: str | None, limit: int | None) -> str:
    """The path of the first page of a list."""
    query = {"state": state, "batch": batch, "limit": min(limit or 100, 100)}
    return "/jobs?" + urlencode({name: value for name, value in query.items() if value is not None})


def page(path: str, patience: float) -> Call[Page]:
    """One page of `GET /jobs`."""
    response = yield from exchange(Request("GET", path), patience)
    next_page = response.links.get("next", {}).get("url")
    return Page([Job.of(item) for item in _body(response)["items"]], next_page)


def models(patience: float) -> Call[dict[str, Any]]:
    """`GET /models`."""
    response = yield from exchange(Request("GET", "/models"), patience)
    return _body(response)


def submit_batch(items: Iterable[Mapping[str, Any]], lenient: bool, key: str | None, patience: float) -> Call[Batch]:
    """`POST /batches` as JSON lines."""
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key or uuid.uuid4().hex}
    if lenient:
        headers["Prefer"] = "handling=lenient"
    body = b"".join(_json(item) + b"\n" for item in items)
    response = yield from exchange(Request("POST", "/batches", headers, body, held=60, busy=_BUSY_SUBMIT), patience)
    return Batch.of(_body(response))


def batch(batch_id: str, action: str, patience: float) -> Call[Batch]:
    """`GET /batches/{id}`, or with an action `POST /batches/{id}/{action}`."""
    method, path = ("GET", f"/batches/{batch_id}") if not action else ("POST", f"/batches/{batch_id}/{action}")
    response = yield from exchange(Request(method, path), patience)
    return Batch.of(_body(response))


def path_of(job: Job | str) -> str:
    """The path of a job."""
    return f"/jobs/{job if isinstance(job, str) else job.id}"


def _body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise ServiceError(
            f"the server at {response.url} is not a panorama service", status=response.status_code
        ) from error


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
