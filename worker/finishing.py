"""Encodes, stores and commits a painted picture while the model process already paints the next job."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
from redis.exceptions import RedisError

from engine.picture import encode_png
from jobs import tracing
from jobs.claims import JobClaims
from jobs.faults import fault
from jobs.record import JobRecord, State
from jobs.store import ImageStore, StoredImage, StoreError
from recipe.fields import Recipe
from worker.leases import Lease, LeaseKeeper
from worker.messages import Done
from worker.metrics import WorkerMetrics
from worker.outcomes import Outcomes, Timeouts
from worker.shutdown import Shutdown

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25


class Finisher:
    """Finishes one picture at a time, in a thread; the lease keeper renews its lease meanwhile.

    There is no queue: a caller with a second picture waits until the first is committed. That bounds the memory, and a
    store or a Redis that is away keeps the worker from painting more pictures than it can store.
    """

    def __init__(
        self,
        claims: JobClaims,
        store: ImageStore,
        leases: LeaseKeeper,
        outcomes: Outcomes,
        timeouts: Timeouts,
        shutdown: Shutdown,
        metrics: WorkerMetrics,
    ) -> None:
        self._claims = claims
        self._store = store
        self._leases = leases
        self._outcomes = outcomes
        self._timeouts = timeouts
        self._shutdown = shutdown
        self._metrics = metrics
        self._thread: threading.Thread | None = None
        self._current: tuple[JobRecord, Lease] | None = None

    def take(self, record: JobRecord, lease: Lease, done: Done) -> bool:
        """Finish this picture in the background, then drop its lease. False when the caller should stop the job
        instead: it is no longer wanted, or this worker is leaving and cannot wait for the picture before.

        The thread inherits the caller's logging and tracing context.
        """
        if not self._wait(lease):
            return False
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._finish, record, lease, done), name="finisher", daemon=True
        )
        self._current = (record, lease)
        thread.start()
        self._thread = thread
        return True

    def close(self) -> None:
        """Wait for the last picture. If the store hangs while the worker must leave, its job is put back without using
        up an attempt.

        Raises:
            RedisError: when that job could not be put back; its lease expires.
        """
        if not self._wait() and (current := self._current):
            self._outcomes.stopped(*current)

    def _wait(self, waiting: Lease | None = None) -> bool:
        """Wait until the picture before is finished. False when that takes longer than a leaving worker may wait, or
        when the job of `waiting` has become unwanted meanwhile."""
        grace_over_at: float | None = None
        while self._thread and self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
            if waiting and (waiting.canceled.is_set() or waiting.lost.is_set()):
                return False
            if self._shutdown.grace_over():
                now = time.monotonic()
                grace_over_at = grace_over_at or now
                if now - grace_over_at > self._timeouts.stop:
                    return False
        return True

    def _finish(self, record: JobRecord, lease: Lease, done: Done) -> None:
        try:
            with tracing.span("finish"):
                self._commit(record, lease, done)
        except RedisError as error:
            log.warning("job %s: its lease is left to expire: %s", record.id, error)
        except Exception as error:
            log.exception("job %s: its picture was not finished", record.id)
            self._put_back(record, error)
        finally:
            self._leases.drop(lease)
            self._current = None

    def _put_back(self, record: JobRecord, error: Exception) -> None:
        try:
            self._outcomes.put_back(record, fault("internal-error", f"{type(error).__name__} in the worker"))
        except RedisError as redis_error:
            log.warning("job %s: its lease is left to expire: %s", record.id, redis_error)

    def _commit(self, record: JobRecord, lease: Lease, done: Done) -> None:
        timings = dict(done.timings)
        with _phase("png", timings):
            pixels = np.frombuffer(done.image, np.uint8).reshape(done.height, done.width, 3)
            params = Recipe.of(record.input)
            model = record.input["model"]
            png = encode_png(pixels, params, model=model, revision=done.revision, made_with=done.made_with)
        with _phase("store", timings):
            image = self._store_png(record, lease, png)
        if image is None:
            return
        result = {**asdict(image), "width": done.width, "height": done.height}
        entered = self._outcomes.until_redis_answers(
            lambda: self._claims.finish(
                record.id,
                record.token,
                State.SUCCEEDED,
                result=result,
                timings=timings,
                notices=done.notices,
                revision=done.revision,
                phase="done",
            )
        )
        self._metrics.picture_finished(timings, done.total_steps, done.memory)
        tracing.annotate(panoramas__outcome=str(entered or "late"))
        log.info("job %s: %s", record.id, entered or "a late attempt; its picture is deleted")
        if entered != State.SUCCEEDED:
            try:
                self._store.delete(image.key)
            except StoreError as error:
                log.warning("job %s: %s; left to the sweeper", record.id, error)

    def _store_png(self, record: JobRecord, lease: Lease, png: bytes) -> StoredImage | None:
        """Write the picture, retrying for a while: painting it again would cost more. None when the job was stopped or
        put back instead."""
        give_up_at = time.monotonic() + self._timeouts.store
        while True:
            try:
                return self._store.put(record.id, record.token, png)
            except StoreError as error:
                log.warning("job %s: %s", record.id, error)
                if lease.canceled.is_set() or lease.lost.is_set() or self._shutdown.grace_over():
                    self._outcomes.stopped(record, lease)
                    return None
                if time.monotonic() > give_up_at:
                    self._outcomes.put_back(record, fault("store-failed", str(error)))
                    return None
            time.sleep(self._timeouts.retry)


@contextmanager
def _phase(name: str, timings: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    with tracing.span(name):
        yield
    timings[name] = round(time.perf_counter() - start, 4)
