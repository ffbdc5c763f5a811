"""The worker process: its signals, its parts, and the loop that keeps running through outages of Redis."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable
from functools import partial

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs.abilities import Abilities
from jobs.claims import JobClaims, living_workers
from jobs.settings import Settings
from jobs.store import ImageStore
from jobs.store_identity import StoreComparison
from worker.attempt import AttemptRunner
from worker.child import ModelProcess, ModelProcessDied
from worker.finishing import Finisher
from worker.kept import KeptPictures
from worker.leases import LeaseKeeper
from worker.messages import Loaded, Report, Unavailable
from worker.metrics import WorkerMetrics
from worker.outcomes import Outcomes, Timeouts
from worker.probation import Probation
from worker.rq_worker import PanoramaWorker
from worker.shutdown import Shutdown
from worker.store_watch import StoreWatch
from worker.sweeper import Sweeper

log = logging.getLogger(__name__)


def host_of(worker: str) -> str:
    """The host of the worker with this name, which ends with its process id and a random part."""
    return worker.rsplit("-", 2)[0]


def is_alive(redis_url: str) -> bool:
    """Whether a worker on this host had a recent heartbeat. Also False when Redis does not answer."""
    try:
        with Redis.from_url(redis_url, decode_responses=True, socket_timeout=5) as redis:
            return any(host_of(name) == socket.gethostname() for name in living_workers(redis))
    except RedisError:
        return False


def run_worker(settings: Settings, redis_url: str) -> int:
    """Serve the queue until a signal stops it. However this process ends, no accepted job is lost."""
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    shutdown = Shutdown(settings.drain_seconds)
    shutdown.install()
    abilities = Abilities(settings.catalog)
    abilities.take_out("its model is not loaded yet")
    claims = JobClaims(_client(redis_url), name, settings.job_limits, abilities)
    store = ImageStore.of(settings)
    metrics = WorkerMetrics(_client(redis_url), name)
    process = ModelProcess(compiled_folder=settings.compiled_folder, on_report=_listener(metrics, abilities))
    timeouts = Timeouts(
        load=settings.load_timeout,
        step=settings.step_timeout,
        job=settings.job_timeout,
        store=settings.store_timeout,
        store_call=settings.store_call_timeout,
    )
    leases = LeaseKeeper(claims, longest=timeouts.longest_attempt, on_hanging=_end_now)
    outcomes = Outcomes(claims, timeouts, shutdown)
    watch = StoreWatch(store, abilities, shutdown, StoreComparison(_client(redis_url), store))
    kept = KeptPictures(
        settings.kept_folder, longest=settings.result_ttl, on_count=lambda count: setattr(abilities, "kept", count)
    )
    finisher = Finisher(claims, store, leases, outcomes, timeouts, shutdown, metrics, watch, kept)
    probation = Probation(
        abilities,
        process,
        settings.catalog,
        timeouts,
        shutdown,
        wait_until_ready=lambda: _wait_until_ready(process, abilities, shutdown, timeouts.load),
        faults_in_a_row=settings.worker_faults,
    )
    attempts = AttemptRunner(claims, process, leases, finisher, outcomes, timeouts, shutdown, probation)
    before_pop = partial(_before_pop, attempts, probation, watch, finisher)
    process.ensure_started()
    leases.start()
    Sweeper(JobClaims(_client(redis_url), name, settings.job_limits), store).start()
    try:
        while not shutdown.requested:
            redis = Redis.from_url(redis_url, socket_connect_timeout=2)
            _serve_queue(redis, _client(redis_url), attempts, before_pop, shutdown)
    finally:
        process.kill()
        _close(finisher)
        leases.stop()
        log.info("worker %s has stopped", name)
    return 0


def _end_now() -> None:
    """End this process, whatever its threads are waiting for: its supervisor starts another one."""
    log.critical("an attempt hangs; this worker ends itself")
    logging.shutdown()
    os._exit(1)  # the kernel kills the model process (worker.parent_death)


def _close(finisher: Finisher) -> None:
    try:
        finisher.close()
    except RedisError as error:
        log.warning("Redis does not answer: %s; a lease is left to expire", error)


def _client(redis_url: str) -> Redis:
    """A client that retries a call once, on a new connection, then raises: each caller has its own way to wait."""
    return Redis.from_url(
        redis_url, decode_responses=True, socket_timeout=5, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1)
    )


def _serve_queue(
    redis: Redis, waker: Redis, attempts: AttemptRunner, before_pop: Callable[[], bool], shutdown: Shutdown
) -> None:
    """Run an RQ worker until a shutdown is requested or Redis is away; the caller then starts another one."""
    ended = threading.Event()
    try:
        worker = PanoramaWorker(
            run=attempts.run,
            before_pop=before_pop,
            connection=redis,
            name=uuid.uuid4().hex,  # RQ refuses the name of a worker that was killed before it could unregister
        )
        threading.Thread(target=_end_wait, args=[worker, waker, shutdown, ended], daemon=True).start()
        worker.work(logging_level="WARNING")
    except RedisError as error:
        log.warning("Redis does not answer: %s; trying again", error)
    finally:
        ended.set()
        redis.close()
    if not shutdown.requested:
        threading.Event().wait(1.0)


def _end_wait(worker: PanoramaWorker, redis: Redis, shutdown: Shutdown, ended: threading.Event) -> None:
    """Once a shutdown is requested, end the worker's wait for a job. A server that forbids that ends it in seconds."""
    while not ended.wait(0.2):
        if shutdown.requested and worker.waiting_client is not None:
            with contextlib.suppress(RedisError):
                redis.client_unblock(worker.waiting_client)
    redis.close()


def _listener(metrics: WorkerMetrics, abilities: Abilities) -> Callable[[Report], None]:
    """Takes in what the model process reports of its models."""

    def on_report(report: Report) -> None:
        match report:
            case Loaded(model):
                abilities.mark_loaded(model)
            case Unavailable(model, reason):
                abilities.mark_broken(model, reason)
        metrics.on_report(report)

    return on_report


def _before_pop(attempts: AttemptRunner, probation: Probation, watch: StoreWatch, finisher: Finisher) -> bool:
    """Wait until this worker can paint and store, then deliver what it has kept and paint what other workers could not.
    False when a shutdown is requested."""
    while probation.serve() and watch.serve():
        if not finisher.deliver_kept() and not attempts.run_refused():
            return True
    return False


def _wait_until_ready(process: ModelProcess, abilities: Abilities, shutdown: Shutdown, load_timeout: float) -> bool:
    """Wait until the model process is ready. False when a shutdown is requested first."""
    pause = 1.0  # doubled each time: a model that cannot be loaded now may stay so for a while
    while not shutdown.requested:
        try:
            process.ensure_started()
            if process.wait_ready(0.5):
                return True
            if process.age > load_timeout:
                raise ModelProcessDied(f"the model process was not ready within {load_timeout:g} s")
        except ModelProcessDied as error:
            log.error("%s; starting another in %.0f s", error.reason, pause)
            abilities.take_out(f"its model process does not start: {error.reason}")
            process.kill()
            shutdown.pause(pause)
            pause = min(pause * 2, 30.0)
    return False
