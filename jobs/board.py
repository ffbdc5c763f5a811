"""The service's view of the jobs, asynchronous: submit, read, cancel. Errors of redis-py pass through unchanged.

The order of the queue: there are two priorities. While jobs of both are waiting, four interactive jobs are handed out,
then one batch job, so interactive work goes first and batch work never starves. Within a priority, owners take turns.
Each job is assigned a round: one more than both the round that the queue has reached and the last round in which its
owner has a job. Lower rounds go first; within a round, earlier submissions do. So an owner with a thousand jobs does
not delay the others, whose first job goes into the very next round. The jobs of a single owner keep the order of their
submission. Computing a position and handing out a job are O(log n). A job that is put back keeps its position.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from jobs import keys, tracing
from jobs.envelope import envelope
from jobs.idempotency import Idempotency, KeyReused
from jobs.limits import JobLimits
from jobs.record import JobRecord, Priority, State, pairs, read_record
from jobs.scripts import SHARE, source
from jobs.server import check_info


class QueueFull(Exception):
    """The limit of waiting jobs, or with `own` this owner's limit, is reached; nothing was accepted."""

    def __init__(self, retry_after: float, *, own: bool = False) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after
        self.own = own


class KeptFull(QueueFull):
    """As much is kept for this owner as may be, until jobs are deleted or expire; nothing was accepted."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A record, with its position in the queue (0 is next) and the estimated seconds until its end, where known.

    `replayed` marks the answer to a repeated submission.
    """

    record: JobRecord
    queue_position: int | None
    eta_seconds: float | None
    replayed: bool = False


class JobBoard:
    """Submits, reads and cancels jobs, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(
        self,
        redis: Redis,
        *,
        retention_seconds: int,
        max_queued: int,
        max_queued_per_owner: int | None = None,
        max_kept_bytes: int = 1 << 40,
    ) -> None:
        self._redis = redis
        self._retention_ms = retention_seconds * 1000
        self._max_queued = max_queued
        self._max_own = max_queued_per_owner or max_queued
        self._max_kept = max_kept_bytes
        self._submit = redis.register_script(source("submit"))
        self._cancel = redis.register_script(source("cancel"))
        self._snapshot = redis.register_script(source("snapshot"))
        self._delete = redis.register_script(source("delete"))
        self._tombstone_seconds = JobLimits().tombstone_seconds

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
        network_samples: int | None = None,
    ) -> JobView:
        """Accept a job: once this returns, it will reach a terminal state. Owners take turns in the queue.
        `webhook_url` is called when it ends (see `jobs.outbox`).

        Raises:
            QueueFull, KeyReused: nothing was accepted.
            OutOfMemoryError: Redis has no memory left, and nothing was accepted.
        """
        record: dict[str, Any] = {"input": dict(params), "metadata": dict(metadata)}
        if idempotency:
            record["fingerprint"] = idempotency.fingerprint
        if webhook_url:
            record["webhook_url"] = webhook_url
        if network_samples is not None:
            record["network_samples"] = network_samples
        key = idempotency.redis_key(owner) if idempotency else None
        answer = await self.send_submit(self._redis, job_id, record, owner, priority, idempotency_key=key)
        outcome, found_id, *snapshot = answer
        await self.raise_if_full(outcome)
        if outcome == "replayed" and idempotency:
            return await self._replay(found_id, idempotency)
        # "exists": redis-py repeated a call whose answer was lost. Ids are random, so the job is this one.
        view = _view(job_id, snapshot[0]) if snapshot else await self.get(job_id)
        if view is None:
            raise RuntimeError(f"job {job_id} disappeared after it was accepted")
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
        idempotency_key: str | None = None,
    ) -> Awaitable[Any]:
        """Run submit.lua on `client`, which may be a pipeline; that script documents the answer."""
        if traceparent := tracing.current():
            record = {**record, "traceparent": traceparent}
        limits = (self._max_queued, self._max_own, self._max_kept)
        return self._submit(
            keys=[idempotency_key] if idempotency_key else [],
            args=[envelope(), job_id, *limits, priority, owner, batch, *pairs(record)],
            client=client,
        )

    async def raise_if_full(self, outcome: str) -> None:
        """Raises QueueFull for the outcomes of `send_submit` that say so."""
        if outcome == "own-kept":
            raise KeptFull(retry_after=30.0)
        if outcome in ("full", "own-full"):
            raise QueueFull(retry_after=await self.pace_seconds(), own=outcome == "own-full")

    async def room(self, owner: str) -> tuple[int, int]:
        """How many jobs `owner` could submit now, and how many at most if none of its own were waiting."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for index in (keys.WAITING, keys.WAITING_BATCH, keys.DISPATCHED, keys.index(owner, State.QUEUED)):
                pipe.zcard(index)
            *queued, own = await pipe.execute()
        most = min(self._max_own, self._max_queued)
        return max(min(self._max_queued - sum(queued), self._max_own - own), 0), most

    async def get(self, job_id: str) -> JobView | None:
        """The current state of a job; None when the id is unknown or long expired."""
        return _view(job_id, await self._snapshot(args=[job_id]))

    async def delete(self, job_id: str) -> State | None:
        """Expire an ended job whose image is already deleted. Returns the state before; None for an unknown id."""
        before = await self._delete(args=[job_id, self._tombstone_seconds])
        return State(before) if before else None

    async def replayed(self, owner: str, idempotency: Idempotency) -> JobView | None:
        """The job that was made under this key before. Found also while nothing can be written.

        Raises:
            KeyReused
        """
        found = await self._redis.get(idempotency.redis_key(owner))
        return await self._replay(str(found), idempotency) if found else None

    async def _replay(self, job_id: str, idempotency: Idempotency) -> JobView:
        view = await self.get(job_id)
        if view is None:
            raise RuntimeError(f"job {job_id} expired before its Idempotency-Key")
        if view.record.fingerprint != idempotency.fingerprint:
            raise KeyReused
        return replace(view, replayed=True)

    async def views(self, records: Sequence[JobRecord]) -> list[JobView]:
        """Views of records that were just read. Those that have not ended are read again, for position and estimate."""
        open_ids = [record.id for record in records if not record.state.terminal]
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in open_ids:
                await self._snapshot(args=[job_id], client=pipe)
            found = dict(zip(open_ids, await pipe.execute() if open_ids else (), strict=True))
        seen = [_view(r.id, found[r.id]) if r.id in found else JobView(r, None, None) for r in records]
        return [view for view in seen if view is not None]

    async def cancel(self, job_id: str) -> bool:
        """Cancel a queued job at once, a running one within a step. False for an unknown id; harmless when ended."""
        return await self._cancel(args=[envelope(), job_id, self._retention_ms]) is not None

    async def cancel_many(self, job_ids: Sequence[str]) -> None:
        """Cancel each of these jobs, in one round trip."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                await self._cancel(args=[envelope(), job_id, self._retention_ms], client=pipe)
            await pipe.execute()

    def script(self, name: str) -> AsyncScript:
        """Another of `jobs.scripts`, registered on the same client."""
        return self._redis.register_script(source(name))

    async def check_server(self) -> None:
        """Check that the server is one that is supported. Raises RedisError."""
        check_info(await self._redis.info("server"))

    async def workers(self) -> dict[str, str | None]:
        """The entries (see `jobs.abilities`) of workers with a recent heartbeat, by name. Raises RedisError."""
        seconds, micros = await self._redis.time()
        oldest = seconds * 1000 + micros // 1000 - keys.WORKER_SILENCE_MS
        living = [str(name) for name in await self._redis.zrangebyscore(keys.WORKERS, oldest, "+inf")]
        entries: list[Any] = await self._redis.hmget(keys.ABILITIES, living) if living else []
        return dict(zip(living, entries, strict=True))

    async def pace_seconds(self) -> float:
        """A moving average of the seconds per job; 10 while none has succeeded."""
        pace = await self._redis.hget(keys.PACE, "job_ms")
        return int(pace) / 1000 if pace else 10.0


def _view(job_id: str, snapshot: Any) -> JobView | None:
    """The answer of snapshot() in prelude.lua, as a view."""
    if snapshot is None:
        return None
    flat, *queue = snapshot
    record = read_record(job_id, dict(zip(flat[::2], flat[1::2], strict=True)))
    if not queue:
        return JobView(record, None, None)
    now, dispatched_rank, dispatched, *ranks, streak, pace, alive = queue
    waiting = _jobs_before(*ranks, streak=int(streak or 0))
    position = dispatched_rank if waiting is None else dispatched + waiting
    return JobView(record, position, _estimate(record, position, now, int(pace) if pace else None, alive))


def _jobs_before(
    interactive_rank: int | None, interactive: int, batch_rank: int | None, batch: int, *, streak: int
) -> int | None:
    """How many waiting jobs go before the one with this rank in its priority; None when it is not waiting.

    `streak`: interactive jobs handed out since the last batch job.
    """
    if interactive_rank is not None:
        return interactive_rank + min(batch, (streak + interactive_rank) // SHARE)
    if batch_rank is not None:
        return batch_rank + min(interactive, (batch_rank + 1) * SHARE - streak)
    return None


def _estimate(record: JobRecord, position: int | None, now: int, pace: int | None, workers: int) -> float | None:
    """Seconds until the end: of a running job by its own steps, of a queued one by the pace of the jobs before it."""
    if record.state == State.RUNNING and record.step and record.denoising_at and record.stepped_at:
        step_ms = (record.stepped_at - record.denoising_at) / record.step
        ends_at = record.stepped_at + step_ms * (record.total_steps - record.step)
        return round(max(ends_at - now, 0) / 1000, 1)
    if pace is None or workers == 0:
        return None
    if record.state == State.QUEUED and position is not None:
        return round(pace * (position // workers + 1) / 1000, 1)
    return None
