"""The worker's heartbeat: a thread that renews its leases whatever the model process is doing.

It also reconciles, so that any living worker puts back what a dead one left.
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
class Watch:
    """What the pulse learns of an attempt that is not over; read by the thread that drives it."""

    record: JobRecord
    begun: float = field(default_factory=time.monotonic)
    canceled: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)

    def note(self, answer: str) -> None:
        """Take in what a fenced write answered."""
        if answer == "cancel":
            self.canceled.set()
        elif answer == "lost":
            self.lost.set()


class Pulse(threading.Thread):
    """Beats every second, or five times a lease where that is short, until stopped. Redis may come and go meanwhile.

    An attempt that is not over after `longest` seconds hangs in a way that nothing else noticed: its lease, and the
    worker's own sign of life, are renewed no more, so that the job goes on elsewhere.
    """

    def __init__(self, claims: JobClaims, *, longest: float) -> None:
        super().__init__(name="pulse", daemon=True)
        self._claims = claims
        self._longest = longest
        self._interval = min(1.0, claims.terms.lease_seconds / 5)
        self._beaten_at = time.monotonic()
        self._unbroken_since: float | None = None
        self._watches: frozenset[Watch] = frozenset()
        self._watches_lock = threading.Lock()
        self._stop_event = threading.Event()

    def watch(self, record: JobRecord) -> Watch:
        """Renew this attempt's lease from now on."""
        watch = Watch(record)
        with self._watches_lock:
            self._watches |= {watch}
        return watch

    def unwatch(self, watch: Watch) -> None:
        """The attempt is over."""
        with self._watches_lock:
            self._watches -= {watch}

    def watches(self, record: JobRecord) -> bool:
        """Whether this very attempt is not over."""
        return any((watch.record.id, watch.record.token) == (record.id, record.token) for watch in self._watches)

    def stop(self) -> None:
        """End the thread after its present beat."""
        self._stop_event.set()
        self.join(timeout=10)
        with contextlib.suppress(RedisError):  # the entry ages out by itself
            self._claims.beat(stopping=True)

    def run(self) -> None:
        while True:
            try:
                self._beat()
            except RedisError as error:
                log.warning("Redis does not answer: %s", error)
                self._unbroken_since = None
            except Exception:
                log.exception("a beat failed")  # a pulse that ends in silence would cost every lease from here on
            if self._stop_event.wait(self._interval):
                return

    def _beat(self) -> None:
        hangs = False
        for watch in self._watches:
            if time.monotonic() - watch.begun > self._longest:
                log.error("job %s: not over after %.0f s; its lease is left to expire", watch.record.id, self._longest)
                hangs = True
            else:
                watch.note(self._claims.renew(watch.record.id, watch.record.token))
        if hangs:
            return
        self._claims.beat()
        now = time.monotonic()
        lease = self._claims.terms.lease_seconds
        if self._unbroken_since is None or now - self._beaten_at > lease / 2:
            self._unbroken_since = now
        self._beaten_at = now
        # After Redis was away (or this process stopped) every lease looks expired, though its owner may be alive and
        # about to renew it. So nothing is taken from anyone until one whole lease has passed without a gap.
        if now - self._unbroken_since >= lease:
            expired, lost = self._claims.reconcile()
            if expired or lost:
                log.warning("put back: %d with an expired lease, %d lost between the queue and a worker", expired, lost)
