"""Submit the lines and fetch their pictures, at the same time; both can resume at any line.

Lines are submitted in their order through `POST /batches`, in chunks of a hundred. One request polls a whole chunk;
only the few chunks at the front of the queue are polled.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from panoramas.async_client import AsyncClient
from panoramas.batch.manifest import Chunk, Manifest
from panoramas.batch.requests import BatchError
from panoramas.errors import ServiceError
from panoramas.results import TERMINAL, Job

# Lines in a chunk: the service reports the faults of at most this many items, and lists this many jobs on a page.
CHUNK = 100
_POLLED_CHUNKS = 4
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between polls of a chunk


class Runner:
    """One run over a manifest.

    Args:
        concurrency: pictures fetched at the same time.
        on_change: called after each change of the manifest.
    """

    def __init__(
        self, client: AsyncClient, manifest: Manifest, *, concurrency: int, on_change: Callable[[], None]
    ) -> None:
        self._client, self._manifest, self._on_change = client, manifest, on_change
        self._fetching = asyncio.Semaphore(concurrency)
        self._accepted: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self._chunk_size = CHUNK

    async def run(self) -> None:
        """Run until every line has a picture or a failure.

        Raises:
            BatchError, ServiceError: this run cannot continue; a later one can.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._submit_all())
                for _ in range(_POLLED_CHUNKS):
                    tasks.create_task(self._collect_all())
        except BaseExceptionGroup as group:
            raise _first(group) from None

    async def _submit_all(self) -> None:
        known = [chunk for chunk in self._manifest.chunks.values() if chunk.batch != ""]
        for chunk in known:
            if chunk.batch:
                self._accepted.put_nowait(chunk)
        for chunk in known:
            if chunk.batch is None:
                self._manifest.check_remembered(chunk)
                await self._submit(chunk, again=True)
        while lines := self._manifest.unsent():
            await self._submit(self._manifest.new_chunk(lines[: self._chunk_size]))
        for _ in range(_POLLED_CHUNKS):
            self._accepted.put_nowait(None)

    async def _submit(self, chunk: Chunk, *, again: bool = False) -> None:
        requests = [self._manifest.requests.items[line].request for line in chunk.lines]
        while True:
            try:
                batch = await self._client.submit_batch(requests, lenient=True, idempotency_key=chunk.key)
                break
            except ServiceError as error:
                if error.status == 429:  # the queue is full or the rate limit reached: try again later
                    await asyncio.sleep(error.retry_after or _LONGEST_PAUSE)
                    continue
                self._refused(chunk, error, again=again)
                return
        faults = {item["index"]: item["errors"] for item in batch.errors}
        self._manifest.record(
            *(_failure(chunk.lines[index], errors=errors) for index, errors in sorted(faults.items())),
            {"event": "accepted", "key": chunk.key, "batch": batch.id},
        )
        self._accepted.put_nowait(chunk)
        self._on_change()

    def _refused(self, chunk: Chunk, error: ServiceError, *, again: bool) -> None:
        """Handle a chunk of which nothing was accepted: no item is valid, or there are too many for this service.

        A chunk that is sent `again` keeps its key: an earlier try may have been accepted under it, before the limits of
        the service changed.
        """
        faults: dict[int, list[dict[str, Any]]] = {}
        for fault in error.errors:
            if fault.index is not None:
                faults.setdefault(fault.index, []).append({"pointer": fault.pointer, "detail": fault.detail})
        if error.status == 422 and len(faults) == len(chunk.lines):
            failures = (_failure(chunk.lines[index], errors=errors) for index, errors in sorted(faults.items()))
            self._manifest.record(*failures, {"event": "accepted", "key": chunk.key, "batch": ""})
            self._on_change()
        elif not again and len(chunk.lines) > 1 and _is_too_many(error):
            self._chunk_size = len(chunk.lines) // 2
            self._manifest.record({"event": "withdrawn", "key": chunk.key})
        else:
            raise error

    async def _collect_all(self) -> None:
        while (chunk := await self._accepted.get()) is not None:
            try:
                await self._collect(chunk)
            except ServiceError as error:
                if error.status == 404:
                    unknown = f"the service does not know batch {chunk.batch} of this folder"
                    raise BatchError(f"{unknown}: it is another service, or has lost its data") from error
                raise

    async def _collect(self, chunk: Chunk) -> None:
        ended, pause = -1, _SHORTEST_PAUSE
        assert chunk.batch
        while any(self._open_lines(chunk)):
            batch = await self._client.batch(chunk.batch)
            now_ended = sum(count for state, count in batch.counts.items() if state in TERMINAL)
            if now_ended == ended:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
                continue
            ended, pause = now_ended, _SHORTEST_PAUSE
            wanted = set(self._open_lines(chunk))
            jobs = [job async for job in self._client.list(batch=chunk.batch) if job.ended]
            async with asyncio.TaskGroup() as tasks:
                for job in jobs:
                    if (line := chunk.lines[job.batch_index or 0]) in wanted:
                        tasks.create_task(self._finish(line, job))
            if batch.ended:
                for line in list(self._open_lines(chunk)):
                    self._fail(line, None, {"title": "The service no longer has the job"})

    def _open_lines(self, chunk: Chunk) -> Iterator[int]:
        manifest = self._manifest
        for line in chunk.lines:
            if manifest.chunk_of.get(line) is chunk and line not in manifest.done and line not in manifest.failed:
                yield line

    async def _finish(self, line: int, job: Job) -> None:
        if job.result is None or job.state != "succeeded":
            self._fail(line, job, dict(job.raw.get("error") or {"title": f"The job is {job.state}"}))
            return
        path = self._manifest.folder / self._manifest.requests.items[line].file
        async with self._fetching:
            # The picture exists already if a run was killed between the rename and the entry.
            if not await asyncio.to_thread(_is_there, path, job.result.sha256):
                try:
                    data = await self._client.image(job)
                except ServiceError as error:
                    if error.status is None or error.status in (401, 403, 429) or error.status in range(501, 600):
                        raise  # not a fault of this picture
                    self._fail(line, job, error.problem or {"title": str(error)})
                    return
                await asyncio.to_thread(_write, path, data)
        saved = {"file": path.name, "sha256": job.result.sha256, "bytes": job.result.bytes}
        self._manifest.record({"event": "done", "line": line, "job": job.id, **saved})
        self._on_change()

    def _fail(self, line: int, job: Job | None, error: dict[str, Any]) -> None:
        self._manifest.record(_failure(line, job=job and job.id, state=job and job.state, error=error))
        self._on_change()


def _is_too_many(error: ServiceError) -> bool:
    return error.status == 413 or "#/items" in {fault.pointer for fault in error.errors}


def _failure(line: int, **why: Any) -> dict[str, Any]:
    return {"event": "failed", "line": line, **why}


def _is_there(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _write(path: Path, data: bytes) -> None:
    """Write the picture atomically: under another name first, then rename it."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that stopped the other tasks."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
