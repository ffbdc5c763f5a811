"""Deletes expired jobs, and images that no job refers to. It has its own thread: a slow store must delay no lease."""

from __future__ import annotations

import logging
import threading

from redis.exceptions import RedisError

from jobs.claims import JobClaims
from jobs.store import ImageStore, StoreError

log = logging.getLogger(__name__)


class Sweeper(threading.Thread):
    """Sweeps every `interval` seconds, unless another worker does, and looks for orphans every `orphans_every` seconds.

    An orphan is an image older than `orphan_age` seconds that an attempt stored and never committed. What cannot be
    deleted is skipped, and an expired job of such an image is tried again after `stuck_seconds`.
    """

    def __init__(
        self,
        claims: JobClaims,
        store: ImageStore,
        *,
        interval: float = 30.0,
        orphans_every: int = 3600,
        orphan_age: float = 3600.0,
        stuck_seconds: float = 600.0,
    ) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._claims = claims
        self._store = store
        self._interval = interval
        self._orphans_every = orphans_every
        self._orphan_age = orphan_age
        self._stuck_seconds = stuck_seconds
        self._pause = threading.Event()

    def run(self) -> None:
        while True:
            try:
                self.sweep()
            except (RedisError, StoreError) as error:
                log.warning("sweep: %s", error)
            except Exception:
                log.exception("sweep failed")
            self._pause.wait(self._interval)

    def sweep(self) -> None:
        """One pass.

        Raises:
            RedisError, StoreError: the next pass tries again.
        """
        # Delete the image first: after a crash in between, the record is still there and the next pass tries again.
        while self._claims.take_sweep(self._interval) and (due := self._claims.due_for_expiry()):
            for record in due:
                self._expire(record.id)
        if self._claims.claim_orphan_sweep(self._orphans_every):
            for images in self._store.older_than(self._orphan_age):
                for key in self._claims.orphans_among(images):
                    log.warning("deleting %s: no job refers to it", key)
                    self._delete_orphan(key)
            self._store.remove_temporaries(self._orphan_age)

    def _expire(self, job_id: str) -> None:
        try:
            self._store.delete_job(job_id)
        except StoreError as error:
            self._store.probe()  # raises if the store fails as a whole; the next sweep goes on then
            log.error("job %s has expired, and stays for %.0f s: %s", job_id, self._stuck_seconds, error)
            self._claims.postpone_expiry(job_id, self._stuck_seconds)
        else:
            self._claims.expire(job_id)

    def _delete_orphan(self, key: str) -> None:
        try:
            self._store.delete(key)
        except StoreError as error:
            self._store.probe()
            log.error("%s; left to the next search for orphans", error)
