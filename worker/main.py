"""The worker process: signals, wiring, and the loop that outlives any fault of Redis."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs.claims import JobClaims, living_workers
from jobs.settings import Settings
from jobs.store import ImageStore
from worker.attempt import Attempts
from worker.child import ChildDied, ModelProcess
from worker.endings import Endings, Limits
from worker.finishing import Finisher
from worker.meter import Meter
from worker.pulse import Pulse
from worker.rq_worker import PanoramaWorker
from worker.stopping import Stopping
from worker.sweeper import Sweeper

log = logging.getLogger(__name__)


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
    claims = JobClaims(_client(redis_url), name, settings.terms)
    store = ImageStore(settings.image_url)
    meter = Meter(_client(redis_url), name)
    child = ModelProcess(hear=meter.hear)
    limits = Limits(
        load_timeout=settings.load_timeout,
        step_timeout=settings.step_timeout,
        job_timeout=settings.job_timeout,
        store_timeout=settings.store_timeout,
    )
    pulse = Pulse(claims, longest=limits.longest)
    endings = Endings(claims, limits, stopping)
    finisher = Finisher(claims, store, pulse, endings, limits, stopping, meter.hear)
    attempts = Attempts(claims, child, pulse, finisher, endings, limits, stopping)
    child.ensure_started()
    pulse.start()
    Sweeper(JobClaims(_client(redis_url), name, settings.terms), store).start()
    try:
        while not stopping.requested:
            _work(Redis.from_url(redis_url, socket_connect_timeout=2), attempts, child, stopping, settings.load_timeout)
    finally:
        child.kill()
        _close(finisher)
        pulse.stop()
        log.info("worker %s has stopped", name)
    return 0


def _close(finisher: Finisher) -> None:
    try:
        finisher.close()
    except RedisError as error:
        log.warning("Redis does not answer: %s; a lease is left to expire", error)


def _client(redis_url: str) -> Redis:
    """Repeats a call once, on a new connection, and then says so: every caller has its own way to wait for Redis."""
    return Redis.from_url(
        redis_url, decode_responses=True, socket_timeout=5, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1)
    )


def _work(redis: Redis, attempts: Attempts, child: ModelProcess, stopping: Stopping, load_timeout: float) -> None:
    """One life of the RQ worker: it ends when told to, or when Redis is gone, and then another begins."""
    try:
        worker = PanoramaWorker(
            run=attempts.run,
            before_pop=lambda: _ready(child, stopping, load_timeout),
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


def _ready(child: ModelProcess, stopping: Stopping, load_timeout: float) -> bool:
    """Wait until the model process has its model; False once the worker should stop."""
    pause = 1.0  # grows, for a model that cannot be loaded now may not be loadable for long
    while not stopping.requested:
        try:
            child.ensure_started()
            if child.wait_ready(0.5):
                return True
            if child.age > load_timeout:
                raise ChildDied(f"the model process was not ready within {load_timeout:g} s")
        except ChildDied as error:
            log.error("%s; starting another in %.0f s", error.reason, pause)
            child.kill()
            until = time.monotonic() + pause
            while not stopping.requested and time.monotonic() < until:
                threading.Event().wait(0.2)
            pause = min(pause * 2, 30.0)
    return False
