"""Calls of webhooks that are to be made: put down by the script that ends a job, in the same step, and made later.

A call is taken under a lease and settled. Who takes it and dies leaves it to be taken again, so that a receiver is told
at least once; a call that is settled too late changes nothing. Its state lies with the job and goes with it: of a job
that has expired or was deleted nobody is told any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis

from jobs import keys
from jobs.metrics import observe
from jobs.record import JobRecord, read_record
from jobs.scripts import source

Outcome = Literal["delivered", "pending", "failed", "disabled"]
CallState = Literal["waiting", "pending", "sending", "delivered", "failed", "disabled"]
OUTCOMES = ("delivered", "retried", "failed", "disabled")

_FIELDS = ("state", "attempts", "status", "error", "at", "next")


@dataclass(frozen=True, slots=True)
class DueCall:
    """One that has been taken. `turn` fences it; `attempt` counts from 1; `target` is the owner's and host's queue."""

    job: JobRecord
    turn: int
    attempt: int
    target: str


@dataclass(frozen=True, slots=True)
class CallStatus:
    """How a job's webhook stands. Times are milliseconds on Redis's clock; `next_at` is for one that is to be made."""

    state: CallState
    attempts: int
    last_status: int | None
    last_error: str | None
    last_at: int | None
    next_at: int | None


class Outbox:
    """The calls to be made, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        names = ("take", "settle", "again")
        self._scripts = {name: redis.register_script(source(f"webhook_{name}")) for name in names}

    async def take(
        self, most: int, *, of_target: int, of_owner: int, under_way: Mapping[str, int], lease: float
    ) -> list[DueCall]:
        """At most `most` calls that are due, of a target and of an owner at most so many with those `under_way` here
        (by target); for `lease` seconds they are nobody else's.

        Raises:
            RedisError
        """
        flat = [part for pair in under_way.items() for part in pair]
        taken = await self._scripts["take"](args=[int(lease * 1000), most, of_target, of_owner, *flat])
        return [
            DueCall(read_record(job_id, dict(zip(fields[::2], fields[1::2], strict=True))), turn, attempt, target)
            for job_id, turn, attempt, target, fields in taken
        ]

    async def settle(
        self, call: DueCall, outcome: Outcome, *, status: int | None, error: str | None, seconds: float, again_in: float
    ) -> bool:
        """Say how a call went; `pending` is one to be tried again in `again_in` seconds. False for one that is late.
        `seconds` is what it took.

        Raises:
            RedisError
        """
        told = [status or "", error or "", int(again_in * 1000), keys.WEBHOOK_GONE_TTL_SECONDS]
        async with self._redis.pipeline(transaction=False) as pipe:
            await self._scripts["settle"](args=[call.job.id, call.turn, outcome, *told], client=pipe)
            observe(pipe, "webhook", "", seconds)
            settled, *_ = await pipe.execute(raise_on_error=False)  # the figure has no leave to exceed Redis's memory
        if isinstance(settled, Exception):
            raise settled
        return bool(settled)

    async def status(self, job_id: str) -> CallStatus:
        """How the call of a job stands that has a webhook."""
        found: Any = await self._redis.hmget(keys.job(job_id), [f"webhook_{field}" for field in _FIELDS])
        state, attempts, status, error, last, following = found
        return CallStatus(
            state=state or "waiting",
            attempts=int(attempts or 0),
            last_status=int(status) if status else None,
            last_error=error,
            last_at=int(last) if last else None,
            next_at=int(following) if following and state == "pending" else None,
        )

    async def again(self, job_id: str) -> bool:
        """Call once more, at once and with all attempts. False for a job that has not ended."""
        return await self._scripts["again"](args=[job_id]) is not None
