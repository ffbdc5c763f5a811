"""The outbox of webhook calls: the script that ends a job adds its call in the same step, and senders make it later.

A sender takes a call under a lease and settles it. If the sender dies, the lease expires and the call is taken again,
so a receiver is called at least once. Settling a call too late changes nothing. The state of a call is part of the
job's record and is deleted with it: for a job that has expired or was deleted, no call is made any more.
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
    """A taken call. `turn` fences it; `attempt` counts from 1; `target` names the queue of its owner and host."""

    job: JobRecord
    turn: int
    attempt: int
    target: str


@dataclass(frozen=True, slots=True)
class CallStatus:
    """The state of a job's webhook call. Times are milliseconds on Redis's clock; `next_at` is set while pending."""

    state: CallState
    attempts: int
    last_status: int | None
    last_error: str | None
    last_at: int | None
    next_at: int | None


class Outbox:
    """The pending calls, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        names = ("take", "settle", "again")
        self._scripts = {name: redis.register_script(source(f"webhook_{name}")) for name in names}

    async def take(
        self, most: int, *, of_target: int, of_owner: int, under_way: Mapping[str, int], lease: float
    ) -> list[DueCall]:
        """Take at most `most` calls that are due; for `lease` seconds no other sender can take them.

        `of_target` and `of_owner` limit the calls in progress of one target and of one owner. The calls that this
        sender has in progress, `under_way` by target, count towards both.

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
        """Record the outcome of a call that took `seconds`. `pending`: it is made again in `again_in` seconds. False
        when its lease had expired and another sender has taken it.

        Raises:
            RedisError
        """
        answer = [status or "", error or "", int(again_in * 1000), keys.WEBHOOK_GONE_TTL_SECONDS]
        async with self._redis.pipeline(transaction=False) as pipe:
            await self._scripts["settle"](args=[call.job.id, call.turn, outcome, *answer], client=pipe)
            observe(pipe, "webhook", "", seconds)
            settled, *_ = await pipe.execute(raise_on_error=False)  # observing may fail when Redis is out of memory
        if isinstance(settled, Exception):
            raise settled
        return bool(settled)

    async def status(self, job_id: str) -> CallStatus:
        """The state of a job's webhook call."""
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
        """Make the call again, at once and with all attempts. False for a job that has not ended."""
        return await self._scripts["again"](args=[job_id]) is not None
