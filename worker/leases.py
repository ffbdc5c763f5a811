"""Keeps the leases of this worker's attempts alive, in a thread, whatever the model process is doing.

The same thread says that the worker is alive and reconciles the queue in turn with other processes, so that whoever
lives puts back the jobs of a dead worker. An idle worker sends one command in four seconds for all of that.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from jobs.claims import JobClaims
from jobs.reconciling import pause_seconds, renewal_seconds, turn_seconds
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

    @property
    def age(self) -> float:
        """Seconds since the attempt was claimed."""
        return time.monotonic() - self.started

    def update(self, answer: str) -> None:
        """Take in the answer of a fenced write: ok, cancel or lost."""
        if answer == "cancel":
            self.canceled.set()
        elif answer == "lost":
            self.lost.set()


class LeaseKeeper(threading.Thread):
    """Renews every second, or five times per lease where that is shorter, until stopped. Redis may come and go.

    An attempt that is still open after `longest` seconds hangs in a way that nothing else noticed. Its lease and the
    worker's own heartbeat are then no longer renewed, so that the job continues on another worker, and `on_hanging` is
    called once a lease has passed, in which the attempt may still end.
    """

    def __init__(self, claims: JobClaims, *, longest: float, on_hanging: Callable[[], None] = lambda: None) -> None:
        super().__init__(name="lease-keeper", daemon=True)
        self._claims = claims
        self._longest = longest
        self._on_hanging = on_hanging
        self._next_beat = self._next_renewal = 0.0
        self._leases: frozenset[Lease] = frozenset()
        self._leases_lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False

    def hold(self, record: JobRecord) -> Lease:
        """Renew this attempt's lease from now on."""
        lease = Lease(record)
        with self._leases_lock:
            self._leases |= {lease}
        self._wake.set()
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
        self._stopping = True
        self._wake.set()
        self.join(timeout=10)
        with contextlib.suppress(RedisError):  # the entry ages out by itself
            self._claims.heartbeat(leaving=True)

    def run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._keep()
            except RedisError as error:
                log.warning("Redis does not answer: %s", error)
                self._next_renewal = self._next_beat = time.monotonic() + renewal_seconds(self._claims.limits)
            except Exception:
                log.exception("renewing the leases failed")  # ending this thread would silently cost every later lease
            due = min(self._next_renewal, self._next_beat) if self._leases else self._next_beat
            if not self._stopping:
                self._wake.wait(max(due - time.monotonic(), 0.05))

    def _keep(self) -> None:
        """Renew and beat, each if it is due."""
        if self._leases and time.monotonic() >= self._next_renewal:
            self._next_renewal = time.monotonic() + renewal_seconds(self._claims.limits)
            self._renew()
        if not self._hanging() and time.monotonic() >= self._next_beat:
            done = self._claims.beat(turn_seconds(self._claims.limits))
            done.report()
            self._next_beat = time.monotonic() + pause_seconds(self._claims.limits, done)

    def _hanging(self) -> Lease | None:
        """An attempt that is open for too long, if there is one."""
        return next((lease for lease in self._leases if lease.age > self._longest), None)

    def _renew(self) -> None:
        for lease in self._leases:
            if lease.age <= self._longest:
                lease.update(self._claims.renew(lease.record.id, lease.record.token))
        if hanging := self._hanging():
            log.error(
                "job %s: still running after %.0f s; its lease is left to expire", hanging.record.id, self._longest
            )
            if hanging.age > self._longest + self._claims.limits.lease_seconds:
                self._on_hanging()
