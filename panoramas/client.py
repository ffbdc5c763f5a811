"""A client of the HTTP API. It knows nothing of the service but what `openapi.yaml` says.

What is sent, and when it is sent again, is decided in `panoramas.calls`; this file waits for answers.
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
from panoramas.calls import Answer, Call, Pause
from panoramas.feed import Feed
from panoramas.results import Batch, Event, Job, PanoramaParams, Picture

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE_SECONDS = 60.0


def http_options(base_url: str | None, api_key: str | None, timeout: float) -> dict[str, Any]:
    """What both clients tell httpx; what is not given comes from PANORAMAS_URL and PANORAMAS_API_KEY."""
    key = os.environ.get("PANORAMAS_API_KEY", "") if api_key is None else api_key
    headers = {"User-Agent": f"panoramas-python/{__version__}", **({"Authorization": f"Bearer {key}"} if key else {})}
    return {
        "base_url": base_url or os.environ.get("PANORAMAS_URL") or DEFAULT_URL,
        "headers": headers,
        "timeout": timeout,
    }


class Client:
    """One pool of connections to one service, for any number of threads. A context manager, or call `close`.

    Every call is tried again while the service is busy or away; a submit carries an Idempotency-Key, so that it makes
    one job however often it is sent.

    Args:
        base_url: where the service is; None: PANORAMAS_URL, else this machine.
        api_key: None: PANORAMAS_API_KEY, else none.
        timeout: seconds for one answer.
        patience: seconds to keep trying. What the service asks for with Retry-After is kept within them.
        transport: httpx's, for a proxy or certificates of your own.

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
        """Let go of the connections."""
        self._http.close()

    def submit(self, prompt: str, *, idempotency_key: str | None = None, **params: Unpack[PanoramaParams]) -> Job:
        """`POST /panoramas`: the job as it was accepted.

        With a key of your own, kept before the call, a program that was killed in between submits once as well.
        """
        return self._run(calls.submit({"prompt": prompt, **params}, idempotency_key, self._patience))

    def generate(self, prompt: str, *, timeout: float | None = None, **params: Unpack[PanoramaParams]) -> Picture:
        """Submit, wait, fetch the PNG.

        Raises:
            JobFailed, WaitTimeout: as `wait`.
        """
        return self._run(calls.generate({"prompt": prompt, **params}, timeout, self._patience))

    def get(self, job: Job | str) -> Job:
        """`GET /jobs/{id}`: the job as it stands."""
        return self._run(calls.get(job, self._patience))

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """The job once it has succeeded.

        Raises:
            JobFailed: it ended in any other way.
            WaitTimeout: it had not ended after `timeout` seconds; it goes on.
        """
        return self._run(calls.wait(job, timeout, self._patience))

    def list(self, *, state: str | None = None, batch: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """Yours, newest first, at most `limit`; pages are fetched as they are needed."""
        path: str | None = calls.first_page(state, batch, limit)
        left = limit
        while path and left != 0:
            page = self._run(calls.page(path, self._patience))
            yield from page.jobs[:left]
            left = None if left is None else max(left - len(page.jobs), 0)
            path = page.next

    def events(self, job: Job | str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """What happens to a job, to its end. A connection that is cut is opened again, and nothing is missed."""
        feed = Feed(job, last_event_id, self._patience)
        while not feed.ended:
            answer: Answer = None
            try:
                ask = feed.request
                with self._http.stream("GET", ask.path, headers=ask.headers, timeout=ask.held) as response:
                    if not response.is_success:
                        response.read()
                    if feed.opened(response):
                        for told in EventSource(response).iter_sse():
                            if event := feed.take(told):
                                yield event
                    else:
                        answer = response
            except httpx.TransportError as error:
                answer = error
            if not feed.ended:
                time.sleep(feed.pause(answer))

    def watch(self, job: Job | str) -> Iterator[Job]:
        """The job each time something has changed, the last time as it ended."""
        for event in self.events(job):
            if event.name in ("job", "progress"):
                yield event.job

    def image(self, job: Job | str, *, format: str = "png") -> bytes:
        """The picture as png (checked against the job's sha256), webp, jpeg or avif."""
        return self._run(calls.picture(job, format, self._patience)).data

    def preview(self, job: Job | str) -> bytes:
        """A small JPEG of the unfinished canvas; ServiceError with status 404 where there is none."""
        return self._run(calls.content(f"{calls.path_of(job)}/preview", self._patience))

    def thumbnail(self, job: Job | str) -> bytes:
        """A small JPEG of the picture."""
        return self._run(calls.content(f"{calls.path_of(job)}/thumbnail", self._patience))

    def cancel(self, job: Job | str) -> Job:
        """A queued job at once, a running one within a step; harmless when it has ended."""
        return self._run(calls.cancel(job, self._patience))

    def delete(self, job: Job | str) -> None:
        """Delete a job that has ended, and its picture."""
        self._run(calls.delete(job, self._patience))

    def models(self) -> dict[str, Any]:
        """`GET /models`: what can be asked for, and the server's limits."""
        return self._run(calls.models(self._patience))

    def submit_batch(
        self, items: Iterable[Mapping[str, Any]], *, lenient: bool = False, idempotency_key: str | None = None
    ) -> Batch:
        """`POST /batches`: all of the items or none; `lenient`: those that are good, the others in `errors`."""
        return self._run(calls.submit_batch(items, lenient, idempotency_key, self._patience))

    def batch(self, batch_id: str) -> Batch:
        """`GET /batches/{id}`; `list(batch=...)` gives its jobs."""
        return self._run(calls.batch(batch_id, "", self._patience))

    def cancel_batch(self, batch_id: str) -> Batch:
        """Cancel all of a batch's jobs that have not ended."""
        return self._run(calls.batch(batch_id, "cancel", self._patience))

    def _run(self, call: Call[T]) -> T:
        answer: Answer = None
        try:
            while True:
                step = call.send(answer)
                answer = None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    continue
                try:
                    answer = self._http.request(
                        step.method,
                        step.path,
                        headers=step.headers,
                        content=step.content,
                        timeout=httpx.Timeout(self._timeout, read=self._timeout + step.held),
                    )
                except httpx.TransportError as error:
                    answer = error
        except StopIteration as end:
            return end.value
