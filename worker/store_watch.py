"""Keeps this worker from claiming jobs while their pictures could not be stored where the API finds them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from jobs.abilities import Abilities
from jobs.store import ImageStore, StoreError
from worker.shutdown import Shutdown

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# Whether the API still uses the same store is asked no more often than this.
_COMPARE_SECONDS = 10.0


class StoreWatch:
    """Whether the store can be used. Thread-safe, but `serve` belongs to the thread that runs jobs.

    The store is written before the first job, and then only after a picture could not be stored, with pauses that
    double: a store that works is asked nothing.

    Args:
        other_store: says why this worker's store is not the API's; None when it is, or nothing is known. May raise
            StoreError, and RedisError, which `serve` passes on.
    """

    def __init__(
        self, store: ImageStore, abilities: Abilities, shutdown: Shutdown, other_store: Callable[[], str | None]
    ) -> None:
        self._store = store
        self._abilities = abilities
        self._shutdown = shutdown
        self._other_store = other_store
        self._compared_at = -_COMPARE_SECONDS
        self._checked = False
        self._fault: str | None = None
        self._said: set[str] = set()  # kinds of faults that the log has since the store worked
        self._size = 2  # bytes of the largest picture that could not be stored
        self._changed = threading.Condition()

    def failed(self, error: StoreError, size: int) -> None:
        """A picture of `size` bytes could not be stored."""
        self._size = max(self._size, size)
        self._take_out(str(error))

    def works(self) -> None:
        """A picture was stored."""
        with self._changed:
            self._checked = True
            if self._fault is None:
                return
            self._fault, self._size = None, 2
            self._said.clear()
            self._abilities.put_back("store")
            self._changed.notify_all()
        log.info("the image store can be used again, and this worker takes jobs")

    def takes(self, size: int) -> bool:
        """Whether the store takes an object of this size now."""
        try:
            self._store.probe(size)
        except StoreError:
            return False
        return True

    def serve(self) -> bool:
        """Return once pictures can be stored. False on a shutdown.

        Raises:
            RedisError
        """
        pause = _FIRST_PAUSE
        while not self._shutdown.requested:
            fault = self._check()
            if fault is None:
                self.works()
                return True
            self._take_out(fault)
            self._wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return False

    def _check(self) -> str | None:
        """Why pictures cannot be stored now, or None."""
        try:
            if self._fault or not self._checked:
                self._store.probe(self._size)
            if self._fault or time.monotonic() - self._compared_at >= _COMPARE_SECONDS:
                if other := self._other_store():
                    return other
                self._compared_at = time.monotonic()
        except StoreError as error:
            return str(error)
        return None

    def _take_out(self, fault: str) -> None:
        with self._changed:
            self._fault = fault
            # Anybody can read that; addresses of the store are for the log alone.
            kind = fault.partition(":")[0]
            self._abilities.take_out(kind, "store")
            known = kind in self._said
            self._said.add(kind)
        if not known:
            log.error("this worker takes no jobs until it can store pictures: %s", fault)

    def _wait(self, seconds: float) -> None:
        """Sleep, but not beyond a signal, or the end of the fault, by more than a moment."""
        until = time.monotonic() + seconds
        with self._changed:
            while self._fault and not self._shutdown.requested and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(left, 0.2))
