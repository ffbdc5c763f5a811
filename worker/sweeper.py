"""Removes what is past its retention and images that no job names, in a thread: a slow store delays no lease."""

from __future__ import annotations

import logging
import threading

from redis.exceptions import RedisError

from jobs.claims import JobClaims
from jobs.store import ImageStore, StoreError

log = logging.getLogger(__name__)


class Sweeper(threading.Thread):
    """Sweeps every `interval` seconds; one worker of all looks for orphans every `orphans_every` seconds.

    An orphan is what an attempt left that died before its commit or came too late, `orphan_age` seconds old.
    """

    def __init__(
        self,
        claims: JobClaims,
        store: ImageStore,
        *,
        interval: float = 30.0,
        orphans_every: int = 3600,
        orphan_age: float = 3600.0,
    ) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._claims = claims
        self._store = store
        self._interval = interval
        self._orphans_every = orphans_every
        self._orphan_age = orphan_age
        self._pause = threading.Event()

    def run(self) -> None:
        while True:
            try:
                self.sweep()
            except (RedisError, StoreError) as error:
                log.warning("sweep: %s", error)
            except Exception:
                log.exception("a sweep failed")
            self._pause.wait(self._interval)

    def sweep(self) -> None:
        """One pass.

        Raises:
            RedisError, StoreError: it is tried again with the next pass.
        """
        # The image goes first: a crash in between leaves a record to try again, never an image that nobody knows.
        while due := self._claims.due_for_expiry():
            for record in due:
                self._store.delete_job(record.id)
                self._claims.expire(record.id)
        if self._claims.sweep_turn(self._orphans_every):
            for images in self._store.older_than(self._orphan_age):
                for key in self._claims.unwanted(images):
                    log.warning("removing %s: no job names it", key)
                    self._store.delete(key)
            self._store.remove_temporaries(self._orphan_age)
