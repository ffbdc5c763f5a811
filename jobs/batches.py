"""Batches: many jobs under one id, opened once, filled in pieces, counted by state and canceled together.

Filling a batch may take several calls. A job's id is derived from the batch's id and the item's number, and each id is
accepted only once. So filling a batch again after a failure adds the missing jobs and duplicates none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from jobs import keys
from jobs.board import JobBoard
from jobs.envelope import envelope
from jobs.idempotency import Idempotency, KeyReused
from jobs.limits import JobLimits
from jobs.record import JobRecord, Priority, State, pairs, read_record

_PIPELINE_SIZE = 250  # jobs in one pipeline
_RUNNING_SAMPLED = 16  # running jobs whose estimates are read for the estimate of their batch


@dataclass(frozen=True, slots=True)
class NewJob:
    """One item of a batch, with every default resolved."""

    index: int
    params: Mapping[str, Any]
    metadata: Mapping[str, Any]
    priority: Priority
    webhook_url: str | None = None
    network_samples: int | None = None

    def record(self) -> dict[str, Any]:
        """The fields that the job's record starts with."""
        own = {"input": dict(self.params), "metadata": dict(self.metadata), "batch_index": self.index}
        optional = {"webhook_url": self.webhook_url, "network_samples": self.network_samples}
        return own | {name: value for name, value in optional.items() if value}


@dataclass(frozen=True, slots=True)
class Batch:
    """The current state of a batch. `total` is the number of valid items, `refused` the number of invalid ones.

    `counts` are its jobs by state. `errors` describes the first of the refused items.
    """

    id: str
    owner: str
    created_at: int
    canceled_at: int | None
    total: int
    refused: int
    errors: list[dict[str, Any]]
    fingerprint: str
    counts: dict[State, int]
    replayed: bool = False

    @property
    def accepted(self) -> int:
        return sum(self.counts.values())

    @property
    def complete(self) -> bool:
        """Whether no further job will be added."""
        return self.canceled_at is not None or self.accepted >= self.total

    @property
    def ended(self) -> bool:
        return self.complete and not (self.counts[State.QUEUED] or self.counts[State.RUNNING])


class Batches:
    """Batches as clients see them, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis, board: JobBoard) -> None:
        self._redis = redis
        self._board = board
        self._open = board.script("open_batch")
        self._cancel = board.script("cancel_batch")
        self._withdraw = board.script("withdraw")

    async def open(
        self,
        batch_id: str,
        owner: str,
        *,
        total: int,
        refused: int,
        errors: Sequence[Mapping[str, Any]],
        idempotency: Idempotency | None,
    ) -> Batch:
        """Open a batch, or find the one that was opened under the same Idempotency-Key.

        Raises:
            KeyReused: the key was used for a different batch.
        """
        fields = {"total": total, "refused": refused, "errors": list(errors)}
        if idempotency:
            fields["fingerprint"] = idempotency.fingerprint
        key = idempotency.redis_key(f"{owner}\0batch") if idempotency else None
        try:
            outcome, found = await self._open(
                keys=[key] if key else [], args=[batch_id, owner, JobLimits().tombstone_seconds, *pairs(fields)]
            )
        except OutOfMemoryError:  # which is no reason not to find one that is there
            outcome, found = "replayed", await self._redis.get(key) if key else None
            if found is None:
                raise
        batch = await self.get(found, replayed=outcome == "replayed")
        if batch is None:
            raise RuntimeError(f"batch {found} expired before its Idempotency-Key")
        if batch.replayed and idempotency and batch.fingerprint != idempotency.fingerprint:
            raise KeyReused
        return batch

    async def fill(self, batch: Batch, jobs: Sequence[NewJob]) -> None:
        """Submit the jobs that do not exist yet. A batch that was canceled meanwhile gets no more of them.

        Raises:
            QueueFull, OutOfMemoryError: some jobs may have been accepted; fill the batch again to continue.
        """
        for start in range(0, len(jobs), _PIPELINE_SIZE):
            piece = jobs[start : start + _PIPELINE_SIZE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for job in piece:
                    await self._board.send_submit(
                        pipe, job_id(batch.id, job.index), job.record(), batch.owner, job.priority, batch.id
                    )
                outcomes = [outcome for outcome, *_ in await pipe.execute()]
            for outcome in set(outcomes):
                await self._board.raise_if_full(outcome)

    async def get(self, batch_id: str, *, replayed: bool = False) -> Batch | None:
        """The current state of a batch; None when the id is unknown or long expired."""
        states = list(State)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.batch(batch_id))
            for state in states:
                pipe.zcard(keys.batch_index(batch_id, state))
            fields, *counts = await pipe.execute()
        if not fields:
            return None
        return Batch(
            id=batch_id,
            owner=fields["owner"],
            created_at=int(fields["created_at"]),
            canceled_at=int(fields["canceled_at"]) if "canceled_at" in fields else None,
            total=int(fields["total"]),
            refused=int(fields["refused"]),
            errors=json.loads(fields["errors"]),
            fingerprint=fields.get("fingerprint", ""),
            counts=dict(zip(states, counts, strict=True)),
            replayed=replayed,
        )

    async def eta_seconds(self, batch: Batch) -> float | None:
        """Estimated seconds until its last job ends; None when that is unknown, or the batch has ended."""
        if not batch.complete or batch.ended:
            return None
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrange(keys.batch_index(batch.id, State.QUEUED), 0, 0, desc=True)
            pipe.zrange(keys.batch_index(batch.id, State.RUNNING), 0, _RUNNING_SAMPLED - 1, desc=True)
            queued, running = await pipe.execute()
        # A running job without a step yet has no estimate; it will end at about the same time as the others.
        estimates = [view.eta_seconds for name in queued or running if (view := await self._board.get(name))]
        return max((seconds for seconds in estimates if seconds is not None), default=None)

    async def cancel(self, batch_id: str) -> None:
        """Cancel every job that has not ended; harmless when all have."""
        await self._cancel(args=[batch_id])
        for state in (State.QUEUED, State.RUNNING):
            # The last first: no job then has to move up behind a canceled one.
            ids = await self._redis.zrange(keys.batch_index(batch_id, state), 0, -1, desc=True)
            for start in range(0, len(ids), _PIPELINE_SIZE):
                await self._board.cancel_many([str(name) for name in ids[start : start + _PIPELINE_SIZE]])

    async def withdraw(self, batch_id: str) -> None:
        """Take back a batch that could not be accepted as a whole, as if it had never been sent. Jobs that have already
        begun are canceled.

        Raises:
            RedisError: some of its jobs may be left.
        """
        await self._cancel(args=[batch_id])
        ids = await self._redis.zrange(keys.batch_index(batch_id), 0, -1, desc=True)
        for start in range(0, len(ids), _PIPELINE_SIZE):
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in map(str, ids[start : start + _PIPELINE_SIZE]):
                    await self._withdraw(args=[envelope(), name], client=pipe)
                await pipe.execute()
        begun = [str(name) for name in await self._redis.zrange(keys.batch_index(batch_id), 0, -1)]
        await self._board.cancel_many(begun)
        if not begun:
            await self._redis.delete(keys.batch(batch_id))

    async def succeeded(self, batch_id: str) -> AsyncIterator[JobRecord]:
        """The jobs that have a picture, in the order of submission."""
        ids = await self._redis.zrange(keys.batch_index(batch_id, State.SUCCEEDED), 0, -1)
        for start in range(0, len(ids), _PIPELINE_SIZE):
            piece = [str(name) for name in ids[start : start + _PIPELINE_SIZE]]
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in piece:
                    pipe.hgetall(keys.job(name))
                found = await pipe.execute()
            for name, fields in zip(piece, found, strict=True):
                if fields and fields["state"] == State.SUCCEEDED:
                    yield read_record(name, fields)


def job_id(batch_id: str, index: int) -> str:
    """The id of an item's job; it is as hard to guess as the batch's id."""
    return hashlib.sha256(f"{batch_id}:{index}".encode()).hexdigest()[:32]
