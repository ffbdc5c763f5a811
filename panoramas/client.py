"""The synchronous client of the HTTP API; it relies on `openapi.yaml` alone.

`panoramas.calls` and `panoramas.batch_calls` decide what is sent, `panoramas.exchange` when it is retried; this file
does the input and output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, Unpack

import httpx
from httpx_sse import EventSource

from panoramas import batch_calls, calls
from panoramas.arguments import png_bytes
from panoramas.batch_calls import OnBatchProgress
from panoramas.calls import OnProgress
from panoramas.connection import DEFAULT_URL, PATIENCE_SECONDS, connect, sending
from panoramas.exchange import Call, Outcome, Pause, Request, Tell, retrying, without_secrets
from panoramas.feed import Feed
from panoramas.files import replacing
from panoramas.params import PanoramaParams
from panoramas.results import Batch, Event, Job, Picture, Webhook

__all__ = ["DEFAULT_URL", "PATIENCE_SECONDS", "Client"]

T = TypeVar("T")


class Client:
    """A connection pool to one service, usable by any number of threads. Use it as a context manager or call `close`.

    Every call is retried while the service is busy or unreachable. A submit carries an Idempotency-Key, so that it
    creates one job however often it is sent.

    Args:
        base_url: address of the service, with a path if a proxy adds one; None: that of the `http_client`, or
            PANORAMAS_URL, or this machine.
        api_key: None: PANORAMAS_API_KEY, or no key if that is unset. It is never logged nor part of an exception.
        timeout: seconds to wait for one response; None: 30, or the `http_client`'s own.
        patience: seconds to keep retrying. A Retry-After of the service is respected within them.
        headers: sent with every request.
        proxy: address of a proxy; None: the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY.
        transport: an httpx transport, for your own certificates for example.
        http_client: your own, instead of `proxy` and `transport`; `close` leaves it open.

    Raises:
        InvalidArgumentError: an argument cannot be used; raised here, and by every method before it sends anything.

    Every method raises ServiceError, in a subclass for each status.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        patience: float = PATIENCE_SECONDS,
        headers: Mapping[str, str] | None = None,
        proxy: str | httpx.Proxy | None = None,
        transport: httpx.BaseTransport | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        self._owns_http = http_client is None
        self._http, self._connection = connect(
            httpx.Client,
            http_client,
            base_url=base_url,
            api_key=api_key,
            timeout=timeout,
            patience=patience,
            headers=headers,
            proxy=proxy,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, unless they are those of your own `http_client`."""
        if self._owns_http:
            self._http.close()

    def submit(self, prompt: str, *, idempotency_key: str | None = None, **params: Unpack[PanoramaParams]) -> Job:
        """`POST /panoramas`: the accepted job.

        If you store an `idempotency_key` of your own before the call, even a program that is killed during the call and
        started again creates one job.
        """
        return self._run(calls.submit({"prompt": prompt, **params}, idempotency_key))

    def generate(
        self,
        prompt: str,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        format: str = "png",
        on_progress: OnProgress | None = None,
        **params: Unpack[PanoramaParams],
    ) -> Picture:
        """Submit, wait, and fetch the picture as png, webp, jpeg or avif.

        `on_progress` is called with the job about once a second and at its end.

        Raises:
            JobFailed, WaitTimeout: as `wait`.
        """
        request = {"prompt": prompt, **params}
        return self._run(calls.generate(request, idempotency_key, format, timeout, on_progress))

    def repaint(
        self,
        png: str | os.PathLike[str] | bytes,
        *,
        idempotency_key: str | None = None,
        priority: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        webhook_url: str | None = None,
    ) -> Job:
        """Submit the recipe inside a PNG of this service, given as a path or as bytes: the accepted job."""
        data = png_bytes(png)
        return self._run(calls.repaint(data, idempotency_key, priority, metadata, webhook_url))

    def get(self, job: Job | str) -> Job:
        """`GET /jobs/{id}`: the current state of the job."""
        return self._run(calls.get(job))

    def wait(self, job: Job | str, *, timeout: float | None = None, on_progress: OnProgress | None = None) -> Job:
        """Wait until the job has succeeded. `on_progress` is called as by `generate`.

        Raises:
            JobFailed: it ended in any other state.
            WaitTimeout: it had not ended after `timeout` seconds; the job itself continues.
        """
        return self._run(calls.wait(job, timeout, on_progress))

    def list(
        self, *, state: str | None = None, batch: Batch | str | None = None, limit: int | None = None
    ) -> Iterator[Job]:
        """Your jobs, newest first, at most `limit`; pages are fetched as the iteration needs them."""
        path: str | None = calls.first_page(state, batch, limit)
        left = limit
        while path and left != 0:
            page = self._run(calls.page(path))
            yield from page.jobs[:left]
            left = None if left is None else max(left - len(page.jobs), 0)
            path = page.next

    def events(self, job: Job | str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """The events of a job until it ends. After a cut connection the stream resumes without losing an event."""
        feed = Feed(job, last_event_id, self._connection.patience)
        while not feed.ended:
            outcome: Outcome = None
            try:
                with self._open(feed.request) as response:
                    if not response.is_success:
                        response.read()
                    if feed.opened(response):
                        for message in EventSource(response).iter_sse():
                            if event := feed.take(message):
                                yield event
                    else:
                        outcome = response
            except httpx.RequestError as error:
                outcome = without_secrets(error)
            if not feed.ended:
                time.sleep(feed.pause(outcome))

    def watch(self, job: Job | str) -> Iterator[Job]:
        """The job after each change; the last one is in a terminal state."""
        for event in self.events(job):
            if event.name in ("job", "progress"):
                yield event.job

    def image(self, job: Job | str, *, format: str = "png") -> bytes:
        """The picture as png (verified against the job's sha256), webp, jpeg or avif."""
        return self._run(calls.picture(job, format)).data

    def preview(self, job: Job | str) -> bytes:
        """A small JPEG of the unfinished canvas; NotFoundError if there is none."""
        return self._run(calls.content(job, "preview"))

    def thumbnail(self, job: Job | str) -> bytes:
        """A small JPEG of the picture."""
        return self._run(calls.content(job, "thumbnail"))

    def cancel(self, job: Job | str) -> Job:
        """Cancel a queued job at once, a running one within a step; an ended job stays as it is."""
        return self._run(calls.cancel(job))

    def delete(self, job: Job | str) -> None:
        """Delete an ended job and its picture."""
        self._run(calls.delete(job))

    def models(self) -> dict[str, Any]:
        """`GET /models`: models, schedulers and the server's limits."""
        return self._run(calls.models())

    def submit_batch(
        self, items: Iterable[Mapping[str, Any]], *, lenient: bool = False, idempotency_key: str | None = None
    ) -> Batch:
        """`POST /batches`: all items or none. With `lenient`, the valid items; the others are in `errors`."""
        return self._run(batch_calls.submit_batch(items, lenient, idempotency_key))

    def batch(self, batch: Batch | str) -> Batch:
        """`GET /batches/{id}`. `list(batch=...)` lists its jobs."""
        return self._run(batch_calls.get_batch(batch))

    def wait_batch(
        self, batch: Batch | str, *, timeout: float | None = None, on_progress: OnBatchProgress | None = None
    ) -> Batch:
        """Wait until every job of the batch has ended, in whatever state: see `counts`.

        Raises:
            BatchWaitTimeout: they had not ended after `timeout` seconds; they continue.
        """
        return self._run(batch_calls.wait_batch(batch, timeout, on_progress))

    def cancel_batch(self, batch: Batch | str) -> Batch:
        """Cancel all jobs of a batch that have not ended."""
        return self._run(batch_calls.cancel_batch(batch))

    def download_zip(self, batch: Batch | str, path: str | os.PathLike[str]) -> Path:
        """Write the pictures that a batch has by now into a ZIP, with a manifest. The file appears when it is complete.

        Raises:
            OSError: it cannot be written.
        """
        with replacing(Path(path)) as file:
            self._run(batch_calls.batch_zip(batch, file))
        return Path(path)

    def webhook(self, job: Job | str) -> Webhook:
        """How the call of a job's webhook stands."""
        return self._run(batch_calls.webhook(job))

    def redeliver_webhook(self, job: Job | str) -> Webhook:
        """Call the webhook of an ended job again, whether the call was delivered, given up or disabled."""
        return self._run(batch_calls.redeliver_webhook(job))

    def webhook_secret(self) -> str:
        """The secret for `panoramas.webhooks.verify`."""
        return self._run(batch_calls.webhook_secret())

    def _run(self, call: Call[T]) -> T:
        retried = retrying(call, self._connection.patience)
        outcome: Outcome = None
        while True:
            try:
                step = retried.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
            elif isinstance(step, Tell):
                step.callback(step.value)
            else:
                outcome = self._send(step)

    def _send(self, request: Request) -> Outcome:
        try:
            with self._open(request) as response:
                if request.sink is not None and response.is_success:
                    _receive(response, request.sink)
                else:
                    response.read()
                return response
        except httpx.RequestError as error:
            return without_secrets(error)

    @contextmanager
    def _open(self, request: Request) -> Iterator[httpx.Response]:
        response = self._http.send(self._connection.build(self._http, request), **sending(request))
        try:
            yield response
        finally:
            response.close()


def _receive(response: httpx.Response, sink: BinaryIO) -> None:
    sink.seek(0)
    sink.truncate()
    for chunk in response.iter_bytes():
        sink.write(chunk)
