"""The process that calls webhooks: takes what is due, calls many targets at once, and settles each call by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.exceptions import RedisError

from jobs import logs, tracing
from jobs.board import JobView
from jobs.connection import connected
from jobs.outbox import DueCall, Outbox, Outcome
from jobs.record import JobRecord
from jobs.settings import Settings
from service.schemas import job_out, moment
from service.webhooks.network import Answer, Poster
from service.webhooks.schemas import JobEnded, message_id
from service.webhooks.signing import Signer
from service.webhooks.targets import TargetRules

log = logging.getLogger(__name__)

# Calls under way: of a target so few that a slow one holds up itself alone, and of an owner so many that whoever names
# slow targets by the dozen leaves room for the others.
_AT_ONCE, _OF_OWNER, _OF_TARGET = 512, 128, 4
_LOOK_EVERY = 0.2  # seconds; a call that has ended makes it look at once


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a call that failed is tried again: `attempts` in all, the pauses between them fourfold each time."""

    attempts: int
    first: float
    longest: float

    def pause(self, attempt: int, asked: float = 0.0) -> float:
        """Seconds after the failure of an attempt (from 1), scattered, so that a target that comes back is not run
        over. `asked` is its Retry-After."""
        own = min(self.first * 4.0 ** min(attempt - 1, 20), self.longest) * random.uniform(0.8, 1.2)
        return max(own, min(asked, self.longest))


class Sender:
    """Sends until it is told to stop. Any number may run; a call belongs to one of them."""

    def __init__(self, outbox: Outbox, poster: Poster, signer: Signer, schedule: Schedule, *, timeout: float) -> None:
        self._outbox = outbox
        self._poster = poster
        self._signer = signer
        self._schedule = schedule
        self._timeout = timeout
        self._under_way: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when the calls under way have ended, soon after `stop` is set."""
        while not stop.is_set():
            self._wake.clear()
            try:
                await self._begin()
            except (RedisError, TimeoutError, OSError) as error:
                log.warning("webhooks wait: %s", error)
                await asyncio.sleep(1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_EVERY)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout + 1)

    async def _begin(self) -> None:
        room = _AT_ONCE - len(self._tasks)
        if room == 0:
            return
        # Longer than a call can take: an answer is settled before anybody else may call again.
        lease = 2 * self._timeout + 1
        calls = await self._outbox.take(
            room, of_target=_OF_TARGET, of_owner=_OF_OWNER, under_way=self._under_way, lease=lease
        )
        for call in calls:
            self._under_way[call.target] += 1
            task = asyncio.create_task(self._call(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, call: DueCall) -> None:
        job = call.job
        try:
            with logs.job_context(job.id), tracing.span("webhook", kind="client", parent=job.traceparent):
                began = time.monotonic()
                answer = await self._post(job)
                await self._settle(call, answer, time.monotonic() - began)
        except Exception:
            log.exception("job %s: its webhook was not called", job.id)  # it is due again when its lease ends
        finally:
            self._under_way[call.target] -= 1
            if not self._under_way[call.target]:
                del self._under_way[call.target]
            self._wake.set()

    async def _post(self, job: JobRecord) -> Answer:
        body = message(job)
        signed = self._signer.headers(job.owner, message_id(job), datetime.now(UTC), body)
        headers = {"Content-Type": "application/json", "User-Agent": "panoramas-webhooks", **signed}
        return await self._poster.post(job.webhook_url, headers, body.encode())

    async def _settle(self, call: DueCall, answer: Answer, seconds: float) -> None:
        outcome = self._outcome(call, answer)
        again_in = self._schedule.pause(call.attempt, answer.retry_after)
        log.info("job %s: webhook %s (attempt %d, status %s)", call.job.id, outcome, call.attempt, answer.status)
        for pause in (0.2, 0.5, 1, 2, 4, None):  # Redis may be away for a moment; the call has been made
            try:
                await self._outbox.settle(
                    call, outcome, status=answer.status, error=answer.error, again_in=again_in, seconds=seconds
                )
                return
            except (RedisError, TimeoutError, OSError):
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    def _outcome(self, call: DueCall, answer: Answer) -> Outcome:
        if answer.error is None:
            return "delivered"
        if answer.status == 410:
            return "disabled"
        return "failed" if call.attempt >= self._schedule.attempts else "pending"


def message(job: JobRecord) -> str:
    """What is told of a job that has ended."""
    told = JobEnded(
        type=f"panorama.{job.state}",
        timestamp=moment(job.finished_at),
        data=job_out(JobView(job, None, None)),
    )
    return told.model_dump_json()


async def _send(settings: Settings, redis_url: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stop.set)
    loop.set_default_executor(ThreadPoolExecutor(_AT_ONCE, "names"))  # a name server may let all of them wait
    redis = connected(redis_url)
    rules = TargetRules(settings.webhook_allow_http, settings.webhook_networks)
    sender = Sender(
        Outbox(redis),
        Poster(rules, timeout=settings.webhook_timeout),
        Signer(settings.webhook_secrets),
        Schedule(settings.webhook_attempts, settings.webhook_first_retry, settings.webhook_longest_retry),
        timeout=settings.webhook_timeout,
    )
    log.info("webhooks are called from here")
    try:
        await sender.run(stop)
    finally:
        await redis.aclose()


def send(settings: Settings, redis_url: str) -> None:
    """Run the process until SIGTERM or SIGINT."""
    asyncio.run(_send(settings, redis_url))
