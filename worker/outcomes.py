"""How an attempt ends without a picture: stopped, failed, or put back to be tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from redis.exceptions import RedisError

from jobs import tracing
from jobs.claims import JobClaims
from jobs.faults import Fault, fault
from jobs.record import JobRecord, State
from worker.leases import Lease
from worker.shutdown import Shutdown

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that things may take.

    `load`: loading a model. `step`: silence of the model process. `job`: painting one job. `store`: retrying to store a
    picture. `store_call`: one call of the store. `stop`: one more step, or one more picture to be stored, once the
    grace period of a shutdown is over. `retry`: the pause between two tries to reach Redis or the store.
    """

    load: float
    step: float
    job: float
    store: float
    store_call: float = 30.0
    stop: float = 5.0
    retry: float = 1.0

    @property
    def longest_attempt(self) -> float:
        """Seconds after which an attempt must be over while Redis answers. It may have to wait until the picture
        before its own is stored."""
        return self.job + 2 * (self.store + 2 * self.store_call) + 120


class Outcomes:
    """Writes to Redis that end an attempt, each fenced by the attempt's token. Thread-safe."""

    def __init__(self, claims: JobClaims, timeouts: Timeouts, shutdown: Shutdown) -> None:
        self._claims = claims
        self._timeouts = timeouts
        self._shutdown = shutdown

    def stopped(self, record: JobRecord, lease: Lease) -> None:
        """Work on the job was stopped on purpose: it is canceled, or no longer ours, or this worker is leaving."""
        if lease.lost.is_set():
            log.warning("job %s: taken over by another worker", record.id)
        elif lease.canceled.is_set():
            self.until_redis_answers(lambda: self._claims.finish(record.id, record.token, State.CANCELED))
        else:
            self.put_back(record, fault("worker-stopped", "the worker was told to stop"), give_back=True)

    def fail(self, record: JobRecord, why: Fault) -> None:
        """End the job as failed: another attempt would end in the same way."""
        tracing.fail(why.detail)
        log.error("job %s: failed: %s", record.id, why.detail)
        self.until_redis_answers(lambda: self._claims.finish(record.id, record.token, State.FAILED, error=asdict(why)))

    def put_back(self, record: JobRecord, why: Fault, *, give_back: bool = False) -> None:
        """Return the job to the queue, or fail it once its attempts are used up. `give_back`: this attempt does not
        count."""
        if not give_back:
            number, most = record.faults[why.blame] + 1, self._claims.limits.max_attempts
            why = replace(why, detail=f"attempt {number} of {max(number, most)}: {why.detail}")
        entered = self.until_redis_answers(
            lambda: self._claims.release(record.id, record.token, fault=why, give_back=give_back)
        )
        tracing.fail(why.detail)
        log.warning("job %s: %s (%s)", record.id, entered or "no longer ours", why.detail)

    def until_redis_answers(self, write: Callable[[], State | None]) -> State | None:
        """Retry a write for as long as Redis is away: the work is done, and repeating it elsewhere would cost more.

        Raises:
            RedisError: once the grace period of a shutdown is over. The lease then expires and the job starts again.
        """
        while True:
            try:
                return write()
            except RedisError as error:
                if self._shutdown.grace_over():
                    raise
                log.warning("Redis does not answer: %s; trying again", error)
                time.sleep(self._timeouts.retry)
