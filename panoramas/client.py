"""The synchronous client of the HTTP API; it relies on `openapi.yaml` alone.

`panoramas.calls` decides what is sent and when it is retried; this file does the input and output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar, Unpack

import httpx
from httpx_sse import EventSource

from panoramas import calls
from panoramas._version import __version__
from panoramas.calls import Call, Outcome, Pause
from panoramas.feed import Feed
from panoramas.params import PanoramaParams
from panoramas.results import Batch, Event, Job, Picture

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE_SECONDS = 60.0


def http_options(base_url: str | None, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Arguments of httpx for both clients; None is replaced by PANORAMAS_URL and PANORAMAS_API_KEY."""
    key = os.environ.get("PANORAMAS_API_KEY", "") if api_key is None else api_key
    headers = {"User-Agent": f"panoramas-python/{__version__}", **({"Authorization": f"Bearer {key}"} if key else {})}
    return {
        "base_url": base_url or os.environ.get("PANORAMAS_URL") or DEFAULT_URL,
        "headers": headers,
        "timeout": timeout,
        # To a bucket, for images; httpx keeps the key from other hosts.
        "follow_redirects": True,
    }


class Client:
    """A connection pool to one service, usable by any number of threads. Use it as a context manager or call `close`.

    Every call is retried while the service is busy or unreachable. A submit carries an Idempotency-Key, so that it
    creates one job however often it is sent.

    Args:
        base_url: address of the service; None: PANORAMAS_URL, or this machine if that is unset.
        api_key: None: PANORAMAS_API_KEY, or no key if that is unset.
        timeout: seconds to wait for one response.
        patience: seconds to keep retrying. A Retry-After of the service is respected within them.
        transport: an httpx transport, for a proxy or your own certificates.

    Every method raises ServiceError.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        patience: float = PATIENCE_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(**http_options(base_url, api_key, timeout), transport=transport)
        self._timeout, self._patience = timeout, patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, prompt: str, *, idempotency_key: str | None = None, **params: Unpack[PanoramaParams]) -> Job:
        """`POST /panoramas`: the accepted job.

        If you store an `idempotency_key` of your own before the call, even a program that is killed during the call and
        started again creates one job.
        """
        return self._run(calls.submit({"prompt": prompt, **params}, idempotency_key, self._patience))

    def generate(self, prompt: str, *, timeout: float | None = None, **params: Unpack[PanoramaParams]) -> Picture:
        """Submit, wait, and fetch the PNG.

        Raises:
            JobFailed, WaitTimeout: as `wait`.
        """
        return self._run(calls.generate({"prompt": prompt, **params}, timeout, self._patience))

    def get(self, job: Job | str) -> Job:
        """`GET /jobs/{id}`: the current state of the job."""
        return self._run(calls.get(job, self._patience))

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Wait until the job has succeeded.

        Raises:
            JobFailed: it ended in any other state.
            WaitTimeout: it had not ended after `timeout` seconds; the job itself continues.
        """
        return self._run(calls.wait(job, timeout, self._patience))

    def list(self, *, state: str | None = None, batch: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """Your jobs, newest first, at most `limit`; pages are fetched as the iteration needs them."""
        path: str | None = calls.first_page(state, batch, limit)
        left = limit
        while path and left != 0:
            page = self._run(calls.page(path, self._patience))
            yield from page.jobs[:left]
            left = None if left is None else max(left - len(page.jobs), 0)
            path = page.next

    def events(self, job: Job | str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """The events of a job until it ends. After a cut connection the stream resumes without losing an event."""
        feed = Feed(job, last_event_id, self._patience)
        while not feed.ended:
            outcome: Outcome = None
            try:
                request = feed.request
                with self._http.stream("GET", request.path, headers=request.headers, timeout=request.held) as response:
                    if not response.is_success:
                        response.read()
                    if feed.opened(response):
                        for message in EventSource(response).iter_sse():
                            if event := feed.take(message):
                                yield event
                    else:
                        outcome = response
            except httpx.TransportError as error:
                outcome = error
            if not feed.ended:
                time.sleep(feed.pause(outcome))

    def watch(self, job: Job | str) -> Iterator[Job]:
        """The job after each change; the last one is in a terminal state."""
        for event in self.events(job):
            if event.name in ("job", "progress"):
                yield event.job

    def image(self, job: Job | str, *, format: str = "png") -> bytes:
        """The picture as png (verified against the job's sha256), webp, jpeg or avif."""
        return self._run(calls.picture(job, format, self._patience)).data

    def preview(self, job: Job | str) -> bytes:
        """A small JPEG of the unfinished canvas; ServiceError with status 404 if there is none."""
        return self._run(calls.content(f"{calls.path_of(job)}/preview", self._patience))

    def thumbnail(self, job: Job | str) -> bytes:
        """A small JPEG of the picture."""
        return self._run(calls.content(f"{calls.path_of(job)}/thumbnail", self._patience))

    def cancel(self, job: Job | str) -> Job:
        """Cancel a queued job at once, a running one within a step; an ended job stays as it is."""
        return self._run(calls.cancel(job, self._patience))

    def delete(self, job: Job | str) -> None:
        """Delete an ended job and its picture."""
        self._run(calls.delete(job, self._patience))

    def models(self) -> dict[str, Any]:
        """`GET /models`: models, schedulers and the server's limits."""
        return self._run(calls.models(self._patience))

    def submit_batch(
        self, items: Iterable[Mapping[str, Any]], *, lenient: bool = False, idempotency_key: str | None = None
    ) -> Batch:
        """`POST /batches`: all items or none. With `lenient`, the valid items; the others are in `errors`."""
        return self._run(calls.submit_batch(items, lenient, idempotency_key, self._patience))

    def batch(self, batch_id: str) -> Batch:
        """`GET /batches/{id}`. `list(batch=...)` lists its jobs."""
        return self._run(calls.batch(batch_id, "", self._patience))

    def cancel_batch(self, batch_id: str) -> Batch:
        """Cancel all jobs of a batch that have not ended."""
        return self._run(calls.batch(batch_id, "cancel", self._patience))

    def _run(self, call: Call[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = call.send(outcome)
                outcome = None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    continue
                try:
                    outcome = self._http.request(
                        step.method,
                        step.path,
                        headers=step.headers,
                        content=step.content,
                        timeout=httpx.Timeout(self._timeout, read=self._timeout + step.held),
                    )
                except httpx.TransportError as error:
                    outcome = error
        except StopIteration as end:
            return end.value
