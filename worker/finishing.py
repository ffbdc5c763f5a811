"""Encodes, stores and commits a painted picture while the model process already paints the next job.

A picture that cannot be stored is kept on this machine's disk, and its job is put back without an attempt being
charged. A worker of this machine delivers it once the store works, unless another one has painted it by then.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

import numpy as np
from redis.exceptions import RedisError

from engine.picture import encode_png
from jobs import logs, tracing
from jobs.claims import CannotPaint, JobClaims
from jobs.faults import fault
from jobs.record import JobRecord, State
from jobs.store import ImageStore, StoredImage, StoreError
from recipe.fields import Recipe
from worker.kept import KeptPictures, Picture
from worker.leases import Lease, LeaseKeeper
from worker.messages import Done
from worker.metrics import WorkerMetrics
from worker.outcomes import Outcomes, Timeouts
from worker.shutdown import Shutdown
from worker.spans import attempt_span
from worker.store_watch import StoreWatch

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
        watch: StoreWatch,
        kept: KeptPictures,
    ) -> None:
        self._claims = claims
        self._store = store
        self._watch = watch
        self._kept = kept
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
        work = partial(self._finish, record, lease, lambda: self._commit(record, lease, done))
        thread = threading.Thread(target=context.run, args=[work], name="finisher", daemon=True)
        self._current = (record, lease)
        thread.start()
        self._thread = thread
        return True

    def deliver_kept(self) -> bool:
        """Store and commit a kept picture whose job waits. False when there is none.

        Raises:
            RedisError
        """
        for job_id in self._kept.ids:
            state = self._claims.state(job_id)
            if state is None or state.terminal:
                log.info("job %s: its kept picture is not needed any more", job_id)
                self._kept.drop(job_id)
            elif state == State.QUEUED and (picture := self._kept.load(job_id)):
                with contextlib.suppress(CannotPaint):
                    if record := self._claims.claim(job_id):
                        self._deliver(record, picture)
                        return True
        return False

    def _deliver(self, record: JobRecord, picture: Picture) -> None:
        lease = self._leases.hold(record)
        with logs.job_context(record.id), attempt_span(record):
            log.info("job %s: attempt %d delivers a kept picture", record.id, record.attempt)
            self._finish(record, lease, lambda: self._store_and_commit(record, lease, picture))

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

    def _finish(self, record: JobRecord, lease: Lease, work: Callable[[], object]) -> None:
        try:
            with tracing.span("finish"):
                work()
        except RedisError as error:
            log.warning("job %s: its lease is left to expire: %s", record.id, error)
        except Exception as error:
            log.exception("job %s: its picture was not finished", record.id)
            self._put_back(record, error)
        finally:
            self._leases.drop(lease)
            if self._current == (record, lease):
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
        picture = Picture(png, done.width, done.height, timings, done.notices, done.revision)
        if self._store_and_commit(record, lease, picture):
            self._metrics.picture_finished(picture.timings, done.total_steps, done.memory)

    def _store_and_commit(self, record: JobRecord, lease: Lease, picture: Picture) -> bool:
        """False when the job was stopped or put back instead."""
        with _phase("store", picture.timings):
            image = self._store_png(record, lease, picture)
        if image is None:
            return False
        result = {**asdict(image), "width": picture.width, "height": picture.height}
        entered = self._outcomes.until_redis_answers(
            lambda: self._claims.finish(
                record.id,
                record.token,
                State.SUCCEEDED,
                result=result,
                timings=picture.timings,
                notices=picture.notices,
                revision=picture.revision,
                phase="done",
            )
        )
        self._kept.drop(record.id)
        tracing.annotate(panoramas__outcome=str(entered or "late"))
        log.info("job %s: %s", record.id, entered or "a late attempt; its picture is deleted")
        if entered != State.SUCCEEDED:
            try:
                self._store.delete(image.key)
            except StoreError as error:
                log.warning("job %s: %s; left to the sweeper", record.id, error)
        return True

    def _store_png(self, record: JobRecord, lease: Lease, picture: Picture) -> StoredImage | None:
        """Write the picture, retrying for a while: painting it again would cost more. None when the job was stopped or
        put back instead."""
        give_up_at = time.monotonic() + self._timeouts.store
        tried = False
        while True:
            try:
                image = self._store.put(record.id, record.token, picture.png)
            except StoreError as error:
                self._watch.failed(error, len(picture.png))
                if not tried:
                    tried = True
                    log.warning("job %s: %s", record.id, error)
                    self._kept.keep(record.id, picture)
                if lease.canceled.is_set() or lease.lost.is_set() or self._shutdown.grace_over():
                    self._stop(record, lease)
                    return None
                if time.monotonic() > give_up_at:
                    self._give_up(record, picture, error)
                    return None
            else:
                self._watch.works()
                return image
            time.sleep(self._timeouts.retry)

    def _stop(self, record: JobRecord, lease: Lease) -> None:
        """A worker that leaves keeps the picture for the one after it."""
        if lease.canceled.is_set() or lease.lost.is_set():
            self._kept.drop(record.id)
        self._outcomes.stopped(record, lease)

    def _give_up(self, record: JobRecord, picture: Picture, error: StoreError) -> None:
        """Put the job back. The attempt is charged only if the store takes other objects of this size."""
        log.warning("job %s: %s", record.id, error)
        why = fault("store-failed", "the image cannot be stored")  # addresses of the store are for the log alone
        if self._watch.takes(len(picture.png)):
            self._kept.drop(record.id)
            self._watch.works()
            self._outcomes.put_back(record, why)
        else:
            self._outcomes.put_back(record, why, give_back=True)


@contextmanager
def _phase(name: str, timings: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    with tracing.span(name):
        yield
    timings[name] = round(time.perf_counter() - start, 4)
