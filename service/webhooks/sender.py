"""The process that sends webhook calls: takes due calls from the outbox, sends many at once, records each outcome."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from redis.exceptions import RedisError

from jobs import logs, tracing
from jobs.board import JobView
from jobs.connection import connected
from jobs.outbox import DueCall, Outbox, Outcome
from jobs.reconciling import Reconciler
from jobs.record import JobRecord
from jobs.settings import Settings
from service.links import set_base
from service.schemas.common import utc_time
from service.schemas.jobs import job_schema
from service.schemas.webhooks import JobEnded, message_id
from service.webhooks.network import WebhookClient, WebhookResponse
from service.webhooks.signing import Signer
from service.webhooks.targets import TargetRules

log = logging.getLogger(__name__)

# Concurrent calls, in all, for each owner and for each target. A slow target delays only calls to itself, and an owner
# with many slow targets leaves room for the others.
_MAX_CALLS, _MAX_PER_OWNER, _MAX_PER_TARGET = 512, 128, 4
_HEARTBEAT_SECONDS = 15.0
_HEARTBEAT = Path(tempfile.gettempdir()) / f"panoramas-webhooks-{os.getuid()}"
_POLL_SECONDS = 0.2  # the outbox is also polled as soon as a call ends


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """When a failed call is tried again: `attempts` in all, and each pause is four times the one before."""

    attempts: int
    first: float
    longest: float

    def pause(self, attempt: int, retry_after: float = 0.0) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) has failed.

        The pauses vary at random, so that a target that recovers does not get all its calls at once.
        """
        own = min(self.first * 4.0 ** min(attempt - 1, 20), self.longest) * random.uniform(0.8, 1.2)
        return max(own, min(retry_after, self.longest))


def is_alive() -> bool:
    """Whether a process of this host has looked for due calls in the last 15 s."""
    try:
        return time.time() - _HEARTBEAT.stat().st_mtime < _HEARTBEAT_SECONDS
    except OSError:
        return False


class Sender:
    """Sends calls until it is stopped. Several processes may run; each call is leased to one of them."""

    def __init__(
        self, outbox: Outbox, client: WebhookClient, signer: Signer, schedule: RetrySchedule, *, timeout: float
    ) -> None:
        self._outbox = outbox
        self._client = client
        self._signer = signer
        self._schedule = schedule
        self._timeout = timeout
        self._in_progress: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then wait for the calls in progress."""
        while not stop.is_set():
            self._wake.clear()
            try:
                await self._start_due_calls()
                _HEARTBEAT.touch(mode=0o600)
            except (RedisError, TimeoutError, OSError) as error:
                log.warning("webhook calls are delayed: %s", error)
                await asyncio.sleep(1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _POLL_SECONDS)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout + 1)

    async def _start_due_calls(self) -> None:
        room = _MAX_CALLS - len(self._tasks)
        if room == 0:
            return
        # Longer than a call can take, so that its outcome is recorded before another process may repeat it.
        lease = 2 * self._timeout + 1
        calls = await self._outbox.take(
            room, of_target=_MAX_PER_TARGET, of_owner=_MAX_PER_OWNER, under_way=self._in_progress, lease=lease
        )
        for call in calls:
            self._in_progress[call.target] += 1
            task = asyncio.create_task(self._call(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, call: DueCall) -> None:
        job = call.job
        try:
            with logs.job_context(job.id), tracing.span("webhook", kind="client", parent=job.traceparent):
                started = time.monotonic()
                response = await self._post(job)
                await self._record(call, response, time.monotonic() - started)
        except Exception:
            log.exception("job %s: the webhook call failed", job.id)  # it is due again when its lease ends
        finally:
            self._in_progress[call.target] -= 1
            if not self._in_progress[call.target]:
                del self._in_progress[call.target]
            self._wake.set()

    async def _post(self, job: JobRecord) -> WebhookResponse:
        body = message_body(job)
        signature = self._signer.headers(job.owner, message_id(job), datetime.now(UTC), body)
        headers = {"Content-Type": "application/json", "User-Agent": "panoramas-webhooks", **signature}
        return await self._client.post(job.webhook_url, headers, body.encode())

    async def _record(self, call: DueCall, response: WebhookResponse, seconds: float) -> None:
        outcome = self._outcome(call, response)
        again_in = self._schedule.pause(call.attempt, response.retry_after)
        log.info("job %s: webhook %s (attempt %d, status %s)", call.job.id, outcome, call.attempt, response.status)
        for pause in (0.2, 0.5, 1, 2, 4, None):  # Redis may be away; the call is made and must not be repeated
            try:
                await self._outbox.settle(
                    call, outcome, status=response.status, error=response.error, again_in=again_in, seconds=seconds
                )
                return
            except (RedisError, TimeoutError, OSError):
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    def _outcome(self, call: DueCall, response: WebhookResponse) -> Outcome:
        if response.error is None:
            return "delivered"
        if response.status == 410:
            return "disabled"
        return "failed" if call.attempt >= self._schedule.attempts else "pending"


def message_body(job: JobRecord) -> str:
    """The body of the call about a job's end."""
    event = JobEnded(
        type=f"panorama.{job.state}",
        timestamp=utc_time(job.finished_at),
        data=job_schema(JobView(job, None, None)),
    )
    return event.model_dump_json()


async def _send(settings: Settings, redis_url: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_default_executor(ThreadPoolExecutor(_MAX_CALLS, "resolver"))  # each call may wait for a slow name server
    set_base(settings.public_url)
    redis = connected(redis_url)
    rules = TargetRules(settings.webhook_allow_http, settings.webhook_networks)
    sender = Sender(
        Outbox(redis),
        WebhookClient(rules, timeout=settings.webhook_timeout),
        Signer(settings.webhook_secrets),
        RetrySchedule(settings.webhook_attempts, settings.webhook_first_retry, settings.webhook_longest_retry),
        timeout=settings.webhook_timeout,
    )
    log.info("sending webhook calls")
    reconciler = Reconciler(redis, settings.job_limits)
    reconciler.start()
    try:
        await sender.run(stop)
    finally:
        await reconciler.stop()
        await redis.aclose()


def send(settings: Settings, redis_url: str) -> None:
    """Run the process until SIGTERM or SIGINT."""
    asyncio.run(_send(settings, redis_url))
