"""Submit what is missing, collect what is done: both at once, and both able to begin anywhere.

Lines are submitted in chunks through `POST /batches`, a request for a hundred of them, in their order. Each chunk is
looked at by one request, whatever its size; only the few chunks at the front of the queue are looked at.
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

# Lines in a chunk: as many as the service tells the faults of, and as a page of its lists holds.
CHUNK = 100
_LOOKED_AT = 4  # chunks
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between looks at a chunk


class Runner:
    """One run over a manifest.

    Args:
        concurrency: pictures fetched at once.
        tell: called when something has changed.
    """

    def __init__(self, client: AsyncClient, manifest: Manifest, *, concurrency: int, tell: Callable[[], None]) -> None:
        self._client, self._manifest, self._tell = client, manifest, tell
        self._fetching = asyncio.Semaphore(concurrency)
        self._accepted: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self._chunk_size = CHUNK

    async def run(self) -> None:
        """Until every line has its picture or its failure.

        Raises:
            BatchError, ServiceError: the run cannot go on now; another will.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._submit_all())
                for _ in range(_LOOKED_AT):
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
        for _ in range(_LOOKED_AT):
            self._accepted.put_nowait(None)

    async def _submit(self, chunk: Chunk, *, again: bool = False) -> None:
        requests = [self._manifest.requests.items[line].request for line in chunk.lines]
        while True:
            try:
                batch = await self._client.submit_batch(requests, lenient=True, idempotency_key=chunk.key)
                break
            except ServiceError as error:
                if error.status == 429:  # the queue is full, or the key has asked too often: it passes
                    await asyncio.sleep(error.retry_after or _LONGEST_PAUSE)
                    continue
                self._refused(chunk, error, again=again)
                return
        faults = {item["index"]: item["errors"] for item in batch.errors}
        self._manifest.record(
            *(_failure(chunk.lines[index], errors=told) for index, told in sorted(faults.items())),
            {"event": "accepted", "key": chunk.key, "batch": batch.id},
        )
        self._accepted.put_nowait(chunk)
        self._tell()

    def _refused(self, chunk: Chunk, error: ServiceError, *, again: bool) -> None:
        """None of a chunk was accepted: no item is good, or they are too many for this service.

        One that is sent `again` is never given other keys: an earlier try may have been accepted under this one, by a
        service whose limits have changed since.
        """
        told: dict[int, list[dict[str, Any]]] = {}
        for fault in error.errors:
            if fault.index is not None:
                told.setdefault(fault.index, []).append({"pointer": fault.pointer, "detail": fault.detail})
        if error.status == 422 and len(told) == len(chunk.lines):
            failures = (_failure(chunk.lines[index], errors=faults) for index, faults in sorted(told.items()))
            self._manifest.record(*failures, {"event": "accepted", "key": chunk.key, "batch": ""})
            self._tell()
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
                    told = f"the service does not know batch {chunk.batch} of this folder"
                    raise BatchError(f"{told}: it is another service, or has lost its data") from error
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
            # A run that was killed between the rename and its entry has the picture.
            if not await asyncio.to_thread(_is_there, path, job.result.sha256):
                try:
                    data = await self._client.image(job)
                except ServiceError as error:
                    if error.status is None or error.status in (401, 403, 429) or error.status in range(501, 600):
                        raise  # it is not about this picture
                    self._fail(line, job, error.problem or {"title": str(error)})
                    return
                await asyncio.to_thread(_write, path, data)
        told = {"file": path.name, "sha256": job.result.sha256, "bytes": job.result.bytes}
        self._manifest.record({"event": "done", "line": line, "job": job.id, **told})
        self._tell()

    def _fail(self, line: int, job: Job | None, error: dict[str, Any]) -> None:
        self._manifest.record(_failure(line, job=job and job.id, state=job and job.state, error=error))
        self._tell()


def _is_too_many(error: ServiceError) -> bool:
    return error.status == 413 or "#/items" in {fault.pointer for fault in error.errors}


def _failure(line: int, **why: Any) -> dict[str, Any]:
    return {"event": "failed", "line": line, **why}


def _is_there(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _write(path: Path, data: bytes) -> None:
    """The whole picture under its name, or nothing."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the others."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
