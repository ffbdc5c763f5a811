"""Keeps the leases of this worker's attempts alive, in a thread, whatever the model process is doing.

The same thread reconciles the queue, so that any living worker puts back the jobs of a dead one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from jobs.claims import JobClaims
from jobs.record import JobRecord

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Lease:
    """This worker's hold on one attempt. Set by whichever thread learns of it: `canceled` when the user wants the job
    to end, `lost` when the attempt no longer owns the job."""

    record: JobRecord
    started: float = field(default_factory=time.monotonic)
    canceled: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)

    def update(self, answer: str) -> None:
        """Take in the answer of a fenced write: ok, cancel or lost."""
        if answer == "cancel":
            self.canceled.set()
        elif answer == "lost":
            self.lost.set()


class LeaseKeeper(threading.Thread):
    """Renews every second, or five times per lease where that is shorter, until stopped. Redis may come and go.

    An attempt that is still open after `longest` seconds hangs in a way that nothing else noticed. Its lease and the
    worker's own heartbeat are then no longer renewed, so that the job continues on another worker.
    """

    def __init__(self, claims: JobClaims, *, longest: float) -> None:
        super().__init__(name="lease-keeper", daemon=True)
        self._claims = claims
        self._longest = longest
        self._interval = min(1.0, claims.limits.lease_seconds / 5)
        self._renewed_at = time.monotonic()
        self._unbroken_since: float | None = None
        self._leases: frozenset[Lease] = frozenset()
        self._leases_lock = threading.Lock()
        self._stop_event = threading.Event()

    def hold(self, record: JobRecord) -> Lease:
        """Renew this attempt's lease from now on."""
        lease = Lease(record)
        with self._leases_lock:
            self._leases |= {lease}
        return lease

    def drop(self, lease: Lease) -> None:
        """Stop renewing: the attempt is over."""
        with self._leases_lock:
            self._leases -= {lease}

    def holds(self, record: JobRecord) -> bool:
        """Whether the lease of exactly this attempt is still being renewed."""
        return any((lease.record.id, lease.record.token) == (record.id, record.token) for lease in self._leases)

    def stop(self) -> None:
        """End the thread after its current round, and remove this worker from the list of living ones."""
        self._stop_event.set()
        self.join(timeout=10)
        with contextlib.suppress(RedisError):  # the entry ages out by itself
            self._claims.heartbeat(leaving=True)

    def run(self) -> None:
        while True:
            try:
                self._renew()
            except RedisError as error:
                log.warning("Redis does not answer: %s", error)
                self._unbroken_since = None
            except Exception:
                log.exception("renewing the leases failed")  # ending this thread would silently cost every later lease
            if self._stop_event.wait(self._interval):
                return

    def _renew(self) -> None:
        hanging = False
        for lease in self._leases:
            if time.monotonic() - lease.started > self._longest:
                log.error(
                    "job %s: still running after %.0f s; its lease is left to expire", lease.record.id, self._longest
                )
                hanging = True
            else:
                lease.update(self._claims.renew(lease.record.id, lease.record.token))
        if hanging:
            return
        self._claims.heartbeat()
        now = time.monotonic()
        lease_seconds = self._claims.limits.lease_seconds
        if self._unbroken_since is None or now - self._renewed_at > lease_seconds / 2:
            self._unbroken_since = now
        self._renewed_at = now
        # After an outage of Redis (or a pause of this process) every lease looks expired, although its owner may be
        # alive and about to renew it. So no job is put back before one whole lease has passed without a gap.
        if now - self._unbroken_since >= lease_seconds:
            expired, lost = self._claims.reconcile()
            if expired or lost:
                log.warning("put back: %d with an expired lease, %d lost between the queue and a worker", expired, lost)
