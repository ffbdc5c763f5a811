"""Every call of the API without any input or output: what to send, what to make of the answer, when to try again.

A call is a generator. It yields a `Request`, and is sent the response or the transport's error; it yields a `Pause`,
and is sent None after that many seconds; it returns what the call gives. The clients in `panoramas.client` and
`panoramas.async_client` are the two loops that run one.
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

_BUSY = frozenset({429, 502, 503, 504})  # nothing was done, or nothing that doing it again would change
_BUSY_SUBMIT = _BUSY | {409, 425, 507}  # a submit under the same key is still in flight; no room at the moment
_LONG_POLL_SECONDS = 20
_LONGEST_PAUSE = 8.0  # where the server names none


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. It may always be sent again: it reads, it is idempotent, or it carries an Idempotency-Key."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    held: float = 0.0  # seconds for which the server may hold the answer
    busy: frozenset[int] = _BUSY
    accepted: frozenset[int] = frozenset()  # besides 2xx


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing for so many seconds."""

    seconds: float


Answer = httpx.Response | httpx.TransportError | None
Call = Generator[Request | Pause, Answer, T]


class Patience:
    """How long one call is tried again, from now.

    `pause` gives the seconds to wait before the next try: what the server asks for, else a random part of a time that
    doubles, so that many clients do not come back together.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._longest = 0.5
        self._told = False

    def pause(self, answer: Answer, path: str) -> float:
        """Raises:
        ServiceError: when patience is at its end.
        """
        asked = retry_after(answer) if isinstance(answer, httpx.Response) else None
        if asked is None:
            seconds = random.uniform(self._longest / 2, self._longest)
            self._longest = min(self._longest * 2, _LONGEST_PAUSE)
        else:
            seconds = asked + random.uniform(0, min(0.1 * asked, 1))
        hopeless = isinstance(answer, httpx.UnsupportedProtocol)
        left = self._deadline - time.monotonic()
        if not hopeless and seconds <= left:
            if not self._told:  # somebody may be wondering why nothing happens
                log.warning("%s: %s; trying again for up to %.0f s", path, _what(answer), left)
                self._told = True
            return seconds
        if isinstance(answer, httpx.Response):
            raise ServiceError.of(answer)
        raise ServiceError(f"the service does not answer: {_what(answer)} ({path})") from answer


def _what(answer: Answer) -> str:
    if isinstance(answer, httpx.Response):
        return f"HTTP {answer.status_code} {answer.reason_phrase}"
    return str(answer) or type(answer).__name__


def exchange(request: Request, patience: float) -> Call[httpx.Response]:
    """Send until there is an answer that says more than `not now`.

    Raises:
        ServiceError
    """
    tries = Patience(patience)
    while True:
        answer = yield request
        if isinstance(answer, httpx.Response) and answer.status_code not in request.busy:
            if answer.is_success or answer.status_code in request.accepted:
                return answer
            raise ServiceError.of(answer)
        yield Pause(tries.pause(answer, request.path))


def submit(params: Mapping[str, Any], key: str | None, patience: float) -> Call[Job]:
    """`POST /panoramas`."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key or uuid.uuid4().hex}
    request = Request("POST", "/panoramas", headers, _json(params), busy=_BUSY_SUBMIT)
    response = yield from exchange(request, patience)
    return Job.of(_told(response))


def get(job: Job | str, patience: float) -> Call[Job]:
    """`GET /jobs/{id}`."""
    response = yield from exchange(Request("GET", path_of(job)), patience)
    return Job.of(_told(response))


def wait(job: Job | str, timeout: float | None, patience: float) -> Call[Job]:
    """Look until the job has ended. The server holds each answer (`Prefer: wait`), so that the end is known at once."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _LONG_POLL_SECONDS if deadline is None else deadline - time.monotonic()
        held = max(min(int(left), _LONG_POLL_SECONDS), 0)
        request = Request("GET", path_of(job), {"Prefer": f"wait={held}"}, held=held)
        response = yield from exchange(request, patience if deadline is None else min(patience, max(left, 1.0)))
        seen = Job.of(_told(response))
        if seen.state == "succeeded":
            return seen
        if seen.ended:
            raise JobFailed(seen)
        left = _LONG_POLL_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(seen)
        if response.headers.get("Preference-Applied", "wait=0") == "wait=0":  # it was not held
            yield Pause(min(retry_after(response) or 1.0, left))


def generate(params: Mapping[str, Any], timeout: float | None, patience: float) -> Call[Picture]:
    """Submit, wait, fetch."""
    accepted = yield from submit(params, None, patience)
    done = yield from wait(accepted, timeout, patience)
    return (yield from picture(done, "png", patience))


def picture(job: Job | str, form: str, patience: float) -> Call[Picture]:
    """`GET /jobs/{id}/image` in one form; the PNG must match the digest that the job tells."""
    if form not in MEDIA_TYPES:
        raise ValueError(f"format: one of {', '.join(MEDIA_TYPES)}, not {form!r}")
    if isinstance(job, str) or job.result is None:
        job = yield from get(job, patience)
    response = yield from exchange(Request("GET", f"{path_of(job)}/image", {"Accept": MEDIA_TYPES[form]}), patience)
    data = response.content
    if form == "png" and job.result and hashlib.sha256(data).hexdigest() != job.result.sha256:
        raise ServiceError("the image that arrived does not match its sha256", status=response.status_code)
    return Picture(job, data, response.headers.get("Content-Type", MEDIA_TYPES[form]))


def content(path: str, patience: float) -> Call[bytes]:
    """The bytes at a path."""
    response = yield from exchange(Request("GET", path), patience)
    return response.content


def cancel(job: Job | str, patience: float) -> Call[Job]:
    """`POST /jobs/{id}/cancel`."""
    response = yield from exchange(Request("POST", f"{path_of(job)}/cancel"), patience)
    return Job.of(_told(response))


def delete(job: Job | str, patience: float) -> Call[None]:
    """`DELETE /jobs/{id}`; one that is gone already (410) is as it should be, as after an answer that was lost."""
    yield from exchange(Request("DELETE", path_of(job), accepted=frozenset({410})), patience)


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and the path of the next ones where there are more."""

    jobs: Sequence[Job]
    next: str | None


def first_page(state: str | None, batch: str | None, limit: int | None) -> str:
    """The path of a list's first page."""
    asked = {"state": state, "batch": batch, "limit": min(limit or 100, 100)}
    return "/jobs?" + urlencode({name: value for name, value in asked.items() if value is not None})


def page(path: str, patience: float) -> Call[Page]:
    """One page of `GET /jobs`."""
    response = yield from exchange(Request("GET", path), patience)
    following = response.links.get("next", {}).get("url")
    return Page([Job.of(item) for item in _told(response)["items"]], following)


def models(patience: float) -> Call[dict[str, Any]]:
    """`GET /models`."""
    response = yield from exchange(Request("GET", "/models"), patience)
    return _told(response)


def submit_batch(items: Iterable[Mapping[str, Any]], lenient: bool, key: str | None, patience: float) -> Call[Batch]:
    """`POST /batches` as JSON lines."""
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key or uuid.uuid4().hex}
    if lenient:
        headers["Prefer"] = "handling=lenient"
    body = b"".join(_json(item) + b"\n" for item in items)
    response = yield from exchange(Request("POST", "/batches", headers, body, held=60, busy=_BUSY_SUBMIT), patience)
    return Batch.of(_told(response))


def batch(batch_id: str, action: str, patience: float) -> Call[Batch]:
    """`GET /batches/{id}`, or `POST` of its cancel."""
    method, path = ("GET", f"/batches/{batch_id}") if not action else ("POST", f"/batches/{batch_id}/{action}")
    response = yield from exchange(Request(method, path), patience)
    return Batch.of(_told(response))


def path_of(job: Job | str) -> str:
    """Where a job is."""
    return f"/jobs/{job if isinstance(job, str) else job.id}"


def _told(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise ServiceError(
            f"what answers at {response.url} is not this service", status=response.status_code
        ) from error


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
