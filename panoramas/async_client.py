"""The asynchronous twin of `panoramas.client`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Self, TypeVar, Unpack

import httpx
from httpx_sse import EventSource

from panoramas import calls
from panoramas.calls import Answer, Call, Pause
from panoramas.client import PATIENCE_SECONDS, http_options
from panoramas.feed import Feed
from panoramas.results import Batch, Event, Job, PanoramaParams, Picture

T = TypeVar("T")


class AsyncClient:
    """One pool of connections to one service, for one event loop. An asynchronous context manager, or call `aclose`.

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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**http_options(base_url, api_key, timeout), transport=transport)
        self._timeout, self._patience = timeout, patience

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def submit(self, prompt: str, *, idempotency_key: str | None = None, **params: Unpack[PanoramaParams]) -> Job:
        """`POST /panoramas`: the job as it was accepted.

        With a key of your own, kept before the call, a program that was killed in between submits once as well.
        """
        return await self._run(calls.submit({"prompt": prompt, **params}, idempotency_key, self._patience))

    async def generate(self, prompt: str, *, timeout: float | None = None, **params: Unpack[PanoramaParams]) -> Picture:
        """Submit, wait, fetch the PNG.

        Raises:
            JobFailed, WaitTimeout: as `wait`.
        """
        return await self._run(calls.generate({"prompt": prompt, **params}, timeout, self._patience))

    async def get(self, job: Job | str) -> Job:
        """`GET /jobs/{id}`: the job as it stands."""
        return await self._run(calls.get(job, self._patience))

    async def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """The job once it has succeeded.

        Raises:
            JobFailed: it ended in any other way.
            WaitTimeout: it had not ended after `timeout` seconds; it goes on.
        """
        return await self._run(calls.wait(job, timeout, self._patience))

    async def list(
        self, *, state: str | None = None, batch: str | None = None, limit: int | None = None
    ) -> AsyncIterator[Job]:
        """Yours, newest first, at most `limit`; pages are fetched as they are needed."""
        path: str | None = calls.first_page(state, batch, limit)
        left = limit
        while path and left != 0:
            page = await self._run(calls.page(path, self._patience))
            for job in page.jobs[:left]:
                yield job
            left = None if left is None else max(left - len(page.jobs), 0)
            path = page.next

    async def events(self, job: Job | str, *, last_event_id: str | None = None) -> AsyncIterator[Event]:
        """What happens to a job, to its end. A connection that is cut is opened again, and nothing is missed."""
        feed = Feed(job, last_event_id, self._patience)
        while not feed.ended:
            answer: Answer = None
            try:
                request = feed.request
                async with self._http.stream(
                    "GET", request.path, headers=request.headers, timeout=request.held
                ) as response:
                    if not response.is_success:
                        await response.aread()
                    if feed.opened(response):
                        async for told in EventSource(response).aiter_sse():
                            if event := feed.take(told):
                                yield event
                    else:
                        answer = response
            except httpx.TransportError as error:
                answer = error
            if not feed.ended:
                await asyncio.sleep(feed.pause(answer))

    async def watch(self, job: Job | str) -> AsyncIterator[Job]:
        """The job each time something has changed, the last time as it ended."""
        async for event in self.events(job):
            if event.name in ("job", "progress"):
                yield event.job

    async def image(self, job: Job | str, *, format: str = "png") -> bytes:
        """The picture as png (checked against the job's sha256), webp, jpeg or avif."""
        return (await self._run(calls.picture(job, format, self._patience))).data

    async def preview(self, job: Job | str) -> bytes:
        """A small JPEG of the unfinished canvas; ServiceError with status 404 where there is none."""
        return await self._run(calls.content(f"{calls.path_of(job)}/preview", self._patience))

    async def thumbnail(self, job: Job | str) -> bytes:
        """A small JPEG of the picture."""
        return await self._run(calls.content(f"{calls.path_of(job)}/thumbnail", self._patience))

    async def cancel(self, job: Job | str) -> Job:
        """A queued job at once, a running one within a step; harmless when it has ended."""
        return await self._run(calls.cancel(job, self._patience))

    async def delete(self, job: Job | str) -> None:
        """Delete a job that has ended, and its picture."""
        await self._run(calls.delete(job, self._patience))

    async def models(self) -> dict[str, Any]:
        """`GET /models`: what can be asked for, and the server's limits."""
        return await self._run(calls.models(self._patience))

    async def submit_batch(
        self, items: Iterable[Mapping[str, Any]], *, lenient: bool = False, idempotency_key: str | None = None
    ) -> Batch:
        """`POST /batches`: all of the items or none; `lenient`: those that are good, the others in `errors`."""
        return await self._run(calls.submit_batch(items, lenient, idempotency_key, self._patience))

    async def batch(self, batch_id: str) -> Batch:
        """`GET /batches/{id}`; `list(batch=...)` gives its jobs."""
        return await self._run(calls.batch(batch_id, "", self._patience))

    async def cancel_batch(self, batch_id: str) -> Batch:
        """Cancel all of a batch's jobs that have not ended."""
        return await self._run(calls.batch(batch_id, "cancel", self._patience))

    async def _run(self, call: Call[T]) -> T:
        answer: Answer = None
        try:
            while True:
                step = call.send(answer)
                answer = None
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    continue
                try:
                    answer = await self._http.request(
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
