"""How a job of this worker ends other than with a picture, for every thread that may find that out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from redis.exceptions import RedisError

from jobs import tracing
from jobs.claims import Fault, JobClaims
from jobs.problems import PROBLEMS
from jobs.record import JobRecord, State
from worker.pulse import Watch
from worker.stopping import Stopping

log = logging.getLogger(__name__)


def fault(reason: str, detail: str) -> Fault:
    """The problem that a job's `error` shows."""
    problem = PROBLEMS[reason]
    return Fault(problem.urn, problem.title, problem.status, detail)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for loading a model, without a sign from the model process, for painting a job, for tries to store a
    picture, for a step of a worker whose grace is over, and between tries to reach Redis or the store."""

    load_timeout: float
    step_timeout: float
    job_timeout: float
    store_timeout: float
    stop_seconds: float = 5.0
    retry_seconds: float = 1.0

    @property
    def longest(self) -> float:
        """Seconds after which an attempt must be over, were Redis there all the time: it may have to wait until the
        picture before its own is stored."""
        return self.job_timeout + 2 * self.store_timeout + 120


class Endings:
    """Writes to Redis that end an attempt, each fenced by its token. Thread-safe."""

    def __init__(self, claims: JobClaims, limits: Limits, stopping: Stopping) -> None:
        self._claims = claims
        self._limits = limits
        self._stopping = stopping

    def let_go(self, record: JobRecord, watch: Watch) -> None:
        """Work on the job stopped as told: canceled, or put back by a worker that leaves, or no longer ours."""
        if watch.lost.is_set():
            log.warning("job %s: taken over by another worker", record.id)
        elif watch.canceled.is_set():
            self.until_redis_answers(lambda: self._claims.finish(record.id, record.token, State.CANCELED))
        else:
            self.put_back(record, fault("worker-stopped", "the worker was told to stop"), give_back=True)

    def fail(self, record: JobRecord, why: Fault) -> None:
        """Another attempt would end the same way."""
        tracing.fail(why.detail)
        log.error("job %s: failed: %s", record.id, why.detail)
        self.until_redis_answers(lambda: self._claims.finish(record.id, record.token, State.FAILED, error=asdict(why)))

    def put_back(self, record: JobRecord, why: Fault, *, give_back: bool = False) -> None:
        """To be begun again while it has attempts left; `give_back`: this one does not count."""
        if not give_back:
            why = replace(why, detail=f"attempt {record.attempt} of {self._claims.terms.max_attempts}: {why.detail}")
        entered = self.until_redis_answers(
            lambda: self._claims.release(record.id, record.token, fault=why, give_back=give_back)
        )
        tracing.fail(why.detail)
        log.warning("job %s: %s (%s)", record.id, entered or "no longer ours", why.detail)

    def until_redis_answers(self, write: Callable[[], State | None]) -> State | None:
        """Retry a commit for as long as Redis is away: the work is done, and nobody else can do it cheaper.

        Only a worker whose grace is over gives up; the lease then expires and the job is painted again.
        """
        while True:
            try:
                return write()
            except RedisError as error:
                if self._stopping.over():
                    raise
                log.warning("Redis does not answer: %s; trying again", error)
                time.sleep(self._limits.retry_seconds)
