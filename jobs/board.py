"""The service's side of the jobs, asynchronous: submit, look, cancel. Faults pass through as redis-py raises them.

The order of the queue. There are two priorities. Where jobs of both wait, four interactive ones are handed out, then
one batch job: interactive work goes first, and batch work is never starved. Within a priority the owners take turns: a
job gets a round, the first after both the round that the queue has reached and the last round its owner has a job in;
lower rounds go first, and within a round earlier submits. So who queues a thousand jobs does not hold up the others: an
owner's first job goes into the very next round. A single owner's jobs go in the order of their submits. Computing a
place and handing out a job are O(log n). A job that is put back keeps its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from jobs import keys, tracing
from jobs.claims import Terms
from jobs.envelope import envelope
from jobs.idempotency import Idempotency, KeyReused
from jobs.record import JobRecord, Priority, State, pairs, read_record
from jobs.scripts import SHARE, source


class QueueFull(Exception):
    """As many jobs wait as the server lets wait, or (`own`) lets this owner have; nothing was accepted."""

    def __init__(self, retry_after: float, *, own: bool = False) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after
        self.own = own


@dataclass(frozen=True, slots=True)
class JobView:
    """A record with what only the queue knows: jobs before it (0 = next) and seconds to go, where they are known.

    `replayed` marks the answer to a repeated submit.
    """

    record: JobRecord
    queue_position: int | None
    eta_seconds: float | None
    replayed: bool = False


class JobBoard:
    """Jobs as clients see them, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(
        self, redis: Redis, *, retention_seconds: int, max_queued: int, max_queued_per_owner: int | None = None
    ) -> None:
        self._redis = redis
        self._retention_ms = retention_seconds * 1000
        self._max_queued = max_queued
        self._max_own = max_queued_per_owner or max_queued
        self._submit = redis.register_script(source("submit"))
        self._cancel = redis.register_script(source("cancel"))
        self._look = redis.register_script(source("look"))
        self._delete = redis.register_script(source("delete"))
        self._tombstone_seconds = Terms().tombstone_seconds

    async def submit(
        self,
        job_id: str,
        params: Mapping[str, Any],
        metadata: Mapping[str, Any],
        *,
        owner: str = "",
        priority: Priority = "interactive",
        idempotency: Idempotency | None = None,
        webhook_url: str | None = None,
    ) -> JobView:
        """Accept a job: after this returns, it reaches a terminal state. `owner` is whom the queue is fair to.
        `webhook_url` is called at its end (see `jobs.outbox`).

        Raises:
            QueueFull, KeyReused: nothing was accepted.
            OutOfMemoryError: nothing was accepted, for want of memory in Redis.
        """
        record: dict[str, Any] = {"input": dict(params), "metadata": dict(metadata)}
        if idempotency:
            record["fingerprint"] = idempotency.fingerprint
        if webhook_url:
            record["webhook_url"] = webhook_url
        remembered = idempotency.redis_key(owner) if idempotency else None
        answer = await self.send_submit(self._redis, job_id, record, owner, priority, remembered=remembered)
        outcome, told, *looked = answer
        if outcome in ("full", "own-full"):
            raise QueueFull(retry_after=await self.pace_seconds(), own=outcome == "own-full")
        if outcome == "replayed" and idempotency:
            return await self._replay(told, idempotency)
        # "exists" is redis-py's own retry of a call whose answer was lost: ids are random, so the job is this one.
        view = _view(job_id, looked[0]) if looked else await self.get(job_id)
        if view is None:
            raise RuntimeError(f"job {job_id} vanished after it was accepted")
        return view

    def send_submit(
        self,
        client: Redis,
        job_id: str,
        record: Mapping[str, Any],
        owner: str,
        priority: Priority,
        batch: str = "",
        *,
        remembered: str | None = None,
    ) -> Awaitable[Any]:
        """One submit on `client`, which may be a pipeline; answers as submit.lua says."""
        if traceparent := tracing.current():
            record = {**record, "traceparent": traceparent}
        limits = (self._max_queued, self._max_own)
        return self._submit(
            keys=[remembered] if remembered else [],
            args=[envelope(), job_id, *limits, priority, owner, batch, *pairs(record)],
            client=client,
        )

    async def room(self, owner: str) -> tuple[int, int]:
        """Jobs that `owner` could submit now, and could at most if nothing of its own waited."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for index in (keys.WAITING, keys.WAITING_BATCH, keys.DISPATCHED, keys.index(owner, State.QUEUED)):
                pipe.zcard(index)
            *queued, own = await pipe.execute()
        most = min(self._max_own, self._max_queued)
        return max(min(self._max_queued - sum(queued), self._max_own - own), 0), most

    async def get(self, job_id: str) -> JobView | None:
        """A job as it stands, or None for an id that was never given out or is long gone."""
        return _view(job_id, await self._look(args=[job_id]))

    async def delete(self, job_id: str) -> State | None:
        """Bury an ended job whose image is gone already. Returns the state before; None for an unknown id."""
        before = await self._delete(args=[job_id, self._tombstone_seconds])
        return State(before) if before else None

    async def _replay(self, job_id: str, idempotency: Idempotency) -> JobView:
        view = await self.get(job_id)
        if view is None:
            raise RuntimeError(f"job {job_id} is gone before its Idempotency-Key")
        if view.record.fingerprint != idempotency.fingerprint:
            raise KeyReused
        return replace(view, replayed=True)

    async def views(self, records: Sequence[JobRecord]) -> list[JobView]:
        """Views of records just read. Only those that have not ended are looked up again, for their place and time."""
        open_ids = [record.id for record in records if not record.state.terminal]
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in open_ids:
                await self._look(args=[job_id], client=pipe)
            found = dict(zip(open_ids, await pipe.execute() if open_ids else (), strict=True))
        seen = [_view(r.id, found[r.id]) if r.id in found else JobView(r, None, None) for r in records]
        return [view for view in seen if view is not None]

    async def cancel(self, job_id: str) -> bool:
        """Cancel: a queued job at once, a running one within a step. False for an unknown id; harmless when ended."""
        return await self._cancel(args=[envelope(), job_id, self._retention_ms]) is not None

    async def cancel_many(self, job_ids: Sequence[str]) -> None:
        """`cancel` each, in one call."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                await self._cancel(args=[envelope(), job_id, self._retention_ms], client=pipe)
            await pipe.execute()

    def script(self, name: str) -> AsyncScript:
        """Another transition on the same client."""
        return self._redis.register_script(source(name))

    async def workers(self) -> int:
        """Worker processes that showed a sign of life lately. Fails where Redis does."""
        seconds, micros = await self._redis.time()
        oldest = seconds * 1000 + micros // 1000 - keys.WORKER_SILENCE_MS
        return await self._redis.zcount(keys.WORKERS, oldest, "+inf")

    async def pace_seconds(self) -> float:
        """What a job has taken lately; a guess where none has ended."""
        pace = await self._redis.hget(keys.PACE, "job_ms")
        return int(pace) / 1000 if pace else 10.0


def _view(job_id: str, looked_up: Any) -> JobView | None:
    """What look.lua has told of a job."""
    if looked_up is None:
        return None
    flat, *queue = looked_up
    record = read_record(job_id, dict(zip(flat[::2], flat[1::2], strict=True)))
    if not queue:
        return JobView(record, None, None)
    now, handed_rank, handed, *places, streak, pace, alive = queue
    waiting = _jobs_before(*places, streak=int(streak or 0))
    position = handed_rank if waiting is None else handed + waiting
    return JobView(record, position, _estimate(record, position, now, int(pace) if pace else None, alive))


def _jobs_before(
    interactive_rank: int | None, interactive: int, batch_rank: int | None, batch: int, *, streak: int
) -> int | None:
    """Waiting jobs that go before one of this rank in its priority, as things stand; None when it does not wait.

    `streak`: interactive jobs handed out since the last batch job.
    """
    if interactive_rank is not None:
        return interactive_rank + min(batch, (streak + interactive_rank) // SHARE)
    if batch_rank is not None:
        return batch_rank + min(interactive, (batch_rank + 1) * SHARE - streak)
    return None


def _estimate(record: JobRecord, position: int | None, now: int, pace: int | None, workers: int) -> float | None:
    """Seconds until the end: a running job by its own steps, a queued one by the pace of the jobs before it."""
    if record.state == State.RUNNING and record.step and record.denoising_at and record.stepped_at:
        a_step = (record.stepped_at - record.denoising_at) / record.step
        ends_at = record.stepped_at + a_step * (record.total_steps - record.step)
        return round(max(ends_at - now, 0) / 1000, 1)
    if pace is None or workers == 0:
        return None
    if record.state == State.QUEUED and position is not None:
        return round(pace * (position // workers + 1) / 1000, 1)
    return None
