"""The worker process: signals, wiring, and the loop that outlives any fault of Redis."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid

from redis import Redis
from redis.exceptions import RedisError

from jobs.claims import JobClaims, living_workers
from jobs.settings import Settings
from jobs.store import ImageStore
from worker.attempt import Attempts, Limits
from worker.child import ChildDied, ModelProcess
from worker.pulse import Pulse
from worker.rq_worker import PanoramaWorker

log = logging.getLogger(__name__)


class Stopping:
    """SIGTERM or SIGINT: take no further job, and let the running one go once the grace is over. A second: at once."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace = grace_seconds
        self._deadline: float | None = None

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    @property
    def requested(self) -> bool:
        return self._deadline is not None

    def over(self) -> bool:
        """Whether the grace has passed."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _on_signal(self, signum: int, _frame: object) -> None:
        # Only this attribute is set here: a handler that raises would do so between any two bytecodes.
        now = time.monotonic()
        self._deadline = now if self._deadline is not None else now + self._grace


def is_alive(redis_url: str) -> bool:
    """Whether a worker of this host has lately said that it lives; False as well when Redis does not answer."""
    try:
        with Redis.from_url(redis_url, decode_responses=True, socket_timeout=5) as redis:
            return any(name.startswith(f"{socket.gethostname()}-") for name in living_workers(redis))
    except RedisError:
        return False


def run_worker(settings: Settings, redis_url: str) -> int:
    """Serve the queue until told to stop; nothing that was accepted is lost by any way this ends."""
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    stopping = Stopping(settings.drain_seconds)
    stopping.install()
    claims = JobClaims(Redis.from_url(redis_url, decode_responses=True, socket_timeout=10), name, settings.terms)
    store = ImageStore(settings.image_url)
    child = ModelProcess()
    pulse = Pulse(claims, store)
    limits = Limits(step_timeout=settings.step_timeout, job_timeout=settings.job_timeout)
    attempts = Attempts(claims, store, child, pulse, limits, stopping.over)
    child.ensure_started()
    pulse.start()
    try:
        while not stopping.requested:
            _work(Redis.from_url(redis_url), attempts, child, stopping)
    finally:
        child.kill()
        pulse.stop()
        log.info("worker %s has stopped", name)
    return 0


def _work(redis: Redis, attempts: Attempts, child: ModelProcess, stopping: Stopping) -> None:
    """One life of the RQ worker: it ends when told to, or when Redis is gone, and then another begins."""
    try:
        worker = PanoramaWorker(
            run=attempts.run,
            before_pop=lambda: _ready(child, stopping),
            connection=redis,
            name=uuid.uuid4().hex,  # RQ refuses a name whose last owner could not sign off
        )
        worker.work(logging_level="WARNING")
    except RedisError as error:
        log.warning("Redis does not answer: %s; trying again", error)
    finally:
        redis.close()
    if not stopping.requested:
        threading.Event().wait(1.0)


def _ready(child: ModelProcess, stopping: Stopping) -> bool:
    """Wait until the model process has its model; False once the worker should stop."""
    while not stopping.requested:
        try:
            child.ensure_started()
            if child.wait_ready(0.5):
                return True
        except ChildDied as error:
            log.error("%s while loading; starting another", error.reason)
            child.kill()
            threading.Event().wait(1.0)
    return False
