"""The calls on jobs without input or output: what to send and how to read the response (see `panoramas.exchange`)."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from panoramas.arguments import check_idempotency_key, job_path
from panoramas.errors import InvalidArgumentError, JobFailed, ServiceError, WaitTimeout, retry_after
from panoramas.exchange import BUSY_SUBMIT, Call, Pause, Request, Tell
from panoramas.formats import media_type
from panoramas.results import Batch, Job, Picture

T = TypeVar("T")
OnProgress = Callable[[Job], Any]

_LONG_POLL_SECONDS = 20
_REDIRECTS = frozenset({302, 303, 307, 308})  # of images, to a signed address in the service's bucket
_PROGRESS_SECONDS = 1  # between two looks at a job whose progress is wanted


def send(request: Request) -> Call[httpx.Response]:
    """The final response of one request."""
    response = yield request
    assert response is not None
    return response


def submit(params: Mapping[str, Any], key: str | None) -> Call[Job]:
    """`POST /panoramas`."""
    return (yield from _submit("/panoramas", "application/json", json_bytes(params), key))


def repaint(
    png: bytes, key: str | None, priority: str | None, metadata: Mapping[str, Any] | None, webhook_url: str | None
) -> Call[Job]:
    """`POST /panoramas` with a PNG that the service has painted. What is no part of its recipe stands in the query."""
    beside = {"priority": priority, "webhook_url": webhook_url}
    beside["metadata"] = None if metadata is None else json_bytes(metadata).decode()
    query = urlencode({name: value for name, value in beside.items() if value is not None})
    return (yield from _submit(f"/panoramas?{query}" if query else "/panoramas", "image/png", png, key))


def _submit(path: str, content_type: str, body: bytes, key: str | None) -> Call[Job]:
    headers = submit_headers(content_type, key)
    response = yield from send(Request("POST", path, headers, body, busy=BUSY_SUBMIT))
    return parsed(Job.of, response)


def submit_headers(content_type: str, key: str | None) -> dict[str, str]:
    """The headers of a submit; without a key of the caller's it gets a new one."""
    return {"Content-Type": content_type, "Idempotency-Key": check_idempotency_key(key) or uuid.uuid4().hex}


def get(job: Job | str) -> Call[Job]:
    """`GET /jobs/{id}`."""
    response = yield from send(Request("GET", job_path(job)))
    return parsed(Job.of, response)


def wait(job: Job | str, timeout: float | None, on_progress: OnProgress | None = None) -> Call[Job]:
    """Poll until the job has ended. The server delays each response (`Prefer: wait`), which shows the end at once."""
    deadline = None if timeout is None else time.monotonic() + timeout
    longest = _LONG_POLL_SECONDS if on_progress is None else _PROGRESS_SECONDS
    while True:
        left = longest if deadline is None else deadline - time.monotonic()
        held = max(min(int(left), longest), 0)
        patience = float("inf") if deadline is None else max(left, 1.0)
        request = Request("GET", job_path(job), {"Prefer": f"wait={held}"}, held=held, patience=patience)
        response = yield from send(request)
        seen = parsed(Job.of, response)
        if on_progress is not None:
            yield Tell(on_progress, seen)
        if seen.state == "succeeded":
            return seen
        if seen.ended:
            raise JobFailed(seen)
        left = longest if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(seen)
        if response.headers.get("Preference-Applied", "wait=0") == "wait=0":  # the server did not delay it
            yield Pause(min(retry_after(response) or 1.0, left))


def generate(
    params: Mapping[str, Any], key: str | None, form: str, timeout: float | None, on_progress: OnProgress | None
) -> Call[Picture]:
    """Submit, wait, and fetch."""
    media_type(form)  # checked before anything is painted
    job = yield from submit(params, key)
    try:
        job = yield from wait(job, timeout, on_progress)
        return (yield from picture(job, form))
    except ServiceError as error:  # the caller has not seen the job yet
        error.job = job
        raise


def picture(job: Job | str, form: str) -> Call[Picture]:
    """`GET /jobs/{id}/image` in one format; a PNG must match the job's sha256."""
    wanted = media_type(form)
    if isinstance(job, str) or job.result is None:
        job = yield from get(job)
    redirects = _REDIRECTS if form == "png" and job.result else frozenset[int]()  # only what the digest verifies
    response = yield from send(Request("GET", f"{job_path(job)}/image", {"Accept": wanted}, accepted=redirects))
    if response.status_code in redirects:
        response = yield from send(Request("GET", _bucket_address(response), {"Accept": wanted}, elsewhere=True))
    data = response.content
    if form == "png" and job.result and hashlib.sha256(data).hexdigest() != job.result.sha256:
        raise ServiceError("the image received does not match its sha256", status=response.status_code)
    return Picture(job, data, response.headers.get("Content-Type", wanted))


def _bucket_address(response: httpx.Response) -> str:
    """Where the service has the picture.

    Raises:
        ServiceError: it is no address, or without TLS while the service itself has it.
    """
    try:
        url = response.url.join(response.headers.get("Location", ""))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or (response.url.scheme, url.scheme) == ("https", "http"):
        raise ServiceError("the service redirects to an address that is not safe", status=response.status_code)
    return str(url)


def content(job: Job | str, part: str) -> Call[bytes]:
    """`GET /jobs/{id}/{part}`: the body."""
    response = yield from send(Request("GET", f"{job_path(job)}/{part}"))
    return response.content


def cancel(job: Job | str) -> Call[Job]:
    """`POST /jobs/{id}/cancel`."""
    response = yield from send(Request("POST", f"{job_path(job)}/cancel"))
    return parsed(Job.of, response)


def delete(job: Job | str) -> Call[None]:
    """`DELETE /jobs/{id}`. 410 counts as success: an earlier try, whose response was lost, deleted it."""
    yield from send(Request("DELETE", job_path(job), accepted=frozenset({410})))


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and the path of the next page if there is one."""

    jobs: Sequence[Job]
    next: str | None


def first_page(state: str | None, batch: Batch | str | None, limit: int | None) -> str:
    """The path of the first page of a list.

    Raises:
        InvalidArgumentError: `limit` is less than 1.
    """
    if limit is not None and limit < 1:
        raise InvalidArgumentError(f"limit: at least 1, not {limit}")
    query = {"state": state, "batch": batch.id if isinstance(batch, Batch) else batch, "limit": min(limit or 100, 100)}
    return "/jobs?" + urlencode({name: value for name, value in query.items() if value is not None})


def page(path: str) -> Call[Page]:
    """One page of `GET /jobs`."""
    response = yield from send(Request("GET", path))
    link = response.links.get("next", {}).get("url")
    # Of the link only the query counts: its host and the prefix of its path are those that the server believes it has.
    next_page = f"/jobs?{httpx.URL(link).query.decode()}" if link else None
    return parsed(lambda body: Page([Job.of(item) for item in body["items"]], next_page), response)


def models() -> Call[dict[str, Any]]:
    """`GET /models`."""
    response = yield from send(Request("GET", "/models"))
    return parsed(dict, response)


def parsed(read: Callable[[Any], T], response: httpx.Response) -> T:
    """The response's JSON as `read` makes it.

    Raises:
        ServiceError: it is not what a panorama service responds.
    """
    try:
        return read(response.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServiceError(
            f"the server at {response.url.copy_with(query=None)} is not a panorama service", status=response.status_code
        ) from error


def json_bytes(value: Any) -> bytes:
    """Compact JSON.

    Raises:
        InvalidArgumentError: the value has no form in JSON, such as NaN, an object of another type, or text that was
            decoded from bytes in another encoding.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()  # refuses half a surrogate pair
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"the request cannot be written as JSON: {error}") from error
