"""Puts back the jobs of dead workers. Every process does so in turn: workers, the API, and the sender of webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from dataclasses import asdict
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs.envelope import envelope
from jobs.faults import Fault, fault
from jobs.limits import JobLimits
from jobs.scripts import source

log = logging.getLogger(__name__)


class Reconciliation(NamedTuple):
    """Whether it was this process's turn; how many leases had expired, how many jobs were lost between the queue and a
    worker, and how many jobs run or are about to."""

    turn: bool
    expired: int
    lost: int
    active: int

    def report(self) -> None:
        """Log what was put back."""
        if self.expired or self.lost:
            text = "put back: %d with an expired lease, %d lost between the queue and a worker"
            log.warning(text, self.expired, self.lost)


NOT_ITS_TURN = Reconciliation(False, 0, 0, 0)


def renewal_seconds(limits: JobLimits) -> float:
    """Seconds between two renewals of a lease."""
    return min(1.0, limits.lease_seconds / 5)


def pause_seconds(limits: JobLimits, last: Reconciliation | None = None) -> float:
    """Seconds until a process asks again whether it is its turn. It is then also noted what the time is, so that these
    are well below a lease; a thousand idle workers wait as long as that allows."""
    if last and last.turn:
        return renewal_seconds(limits) if last.active else min(2.0, limits.lease_seconds / 5)
    return min(4.0, limits.lease_seconds * 0.4)


def turn_seconds(limits: JobLimits) -> float:
    """Seconds for which a process keeps its turn without asking again. Another one takes over within one lease."""
    return min(5.0, limits.lease_seconds / 2)


def reconciliation(
    limits: JobLimits, process: str = "", turn_seconds: float = 0, *, entry: str = "", worker: bool = False
) -> list[str | int]:
    """The arguments of reconcile.lua. Without a process, nobody is asked whose turn it is."""
    return [
        envelope(),
        limits.retention_ms,
        limits.max_attempts,
        int(limits.dispatch_grace_seconds * 1000),
        _error(_attempts_used_up(limits)),
        int(limits.model_grace_seconds * 1000),
        _error(fault("model-unavailable", "")),
        limits.lease_ms,
        process,
        max(int(turn_seconds * 1000), 1),
        int(worker),
        entry,
    ]


def beat(
    limits: JobLimits, process: str, turn_seconds: float, *, entry: str = "", worker: bool = False
) -> list[str | int]:
    """The arguments of beat.lua."""
    return [limits.lease_ms, process, max(int(turn_seconds * 1000), 1), int(worker), entry]


def _error(why: Fault) -> str:
    return json.dumps(asdict(why), separators=(",", ":"))


def _attempts_used_up(limits: JobLimits) -> Fault:
    """The fault of a job whose last attempt ended without a report."""
    most = limits.max_attempts
    silence = f"its worker died or was silent for {limits.lease_seconds:g} s"
    return fault("attempts-used-up", f"attempt {most} of {most}: {silence}")


class Reconciler:
    """Reconciles in turn with all other processes, so that no job waits for a worker to be started. For a process that
    runs no jobs, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis, limits: JobLimits) -> None:
        self._beat = redis.register_script(source("beat"))
        self._reconcile = redis.register_script(source("reconcile"))
        self._limits = limits
        self._name = uuid.uuid4().hex
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.create_task(self._run(), name="reconciler")

    async def stop(self) -> None:
        """End."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        seconds, done = turn_seconds(self._limits), None
        args = reconciliation(self._limits, self._name, seconds)
        while True:
            try:
                had_turn = done is not None and done.turn
                done = None
                if had_turn or await self._beat(args=beat(self._limits, self._name, seconds)):
                    done = Reconciliation(*await self._reconcile(args=args))
                    done.report()
            except (RedisError, TimeoutError, OSError) as error:
                log.debug("nothing is reconciled: %s", error)  # the requests that need Redis say so
            except Exception:
                log.exception("reconciling failed")
            await asyncio.sleep(pause_seconds(self._limits, done))
