"""From pixels to a committed picture, behind the back of the model process: it paints the next job meanwhile."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from engine.picture import encode_png
from jobs import tracing
from jobs.claims import JobClaims
from jobs.record import JobRecord, State
from jobs.store import ImageStore, StoredImage, StoreError
from recipe.fields import Recipe
from worker.endings import Endings, Limits, fault
from worker.pulse import Pulse, Watch
from worker.stopping import Stopping

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25


class Finisher:
    """Encodes, stores and commits one picture at a time, each in a thread of its own; the pulse keeps its lease.

    No second picture waits in here: whoever brings one is kept until the one before is done. That bounds the memory,
    and a store or a Redis that is away stops the worker from painting ever more that cannot be kept.

    `hear` is told of each picture that is finished, and never fails.
    """

    def __init__(
        self,
        claims: JobClaims,
        store: ImageStore,
        pulse: Pulse,
        endings: Endings,
        limits: Limits,
        stopping: Stopping,
        hear: Callable[[dict[str, Any]], None],
    ) -> None:
        self._claims = claims
        self._store = store
        self._pulse = pulse
        self._endings = endings
        self._limits = limits
        self._stopping = stopping
        self._hear = hear
        self._thread: threading.Thread | None = None
        self._held: tuple[JobRecord, Watch] | None = None

    def take(self, record: JobRecord, watch: Watch, done: dict[str, Any]) -> bool:
        """Finish the picture of a `done` from here on, and end its watch. False when the job is to be let go instead.

        What is logged and traced stays with the job that the caller is in.
        """
        if not self._wait(watch):
            return False
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._finish, record, watch, done), name="finisher", daemon=True
        )
        self._held = (record, watch)
        thread.start()
        self._thread = thread
        return True

    def close(self) -> None:
        """Wait for the last picture. A store that hangs while the worker must leave costs no attempt.

        Raises:
            RedisError: when such a job could not be put back; its lease expires.
        """
        if not self._wait() and (held := self._held):
            self._endings.let_go(*held)

    def _wait(self, behind: Watch | None = None) -> bool:
        """Until the picture before is done. False when that takes longer than a leaving worker may wait, or when the
        job of `behind` is no longer wanted meanwhile."""
        over_at: float | None = None
        while self._thread and self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
            if behind and (behind.canceled.is_set() or behind.lost.is_set()):
                return False
            if self._stopping.over():
                now = time.monotonic()
                over_at = over_at or now
                if now - over_at > self._limits.stop_seconds:
                    return False
        return True

    def _finish(self, record: JobRecord, watch: Watch, done: dict[str, Any]) -> None:
        try:
            with tracing.span("finish"):
                self._commit(record, watch, done)
        except RedisError as error:
            log.warning("job %s: its lease is left to expire: %s", record.id, error)
        except Exception as error:
            log.exception("job %s: its picture was not finished", record.id)
            self._put_back(record, error)
        finally:
            self._pulse.unwatch(watch)
            self._held = None

    def _put_back(self, record: JobRecord, error: Exception) -> None:
        try:
            self._endings.put_back(record, fault("internal-error", f"{type(error).__name__} in the worker"))
        except RedisError as gone:
            log.warning("job %s: its lease is left to expire: %s", record.id, gone)

    def _commit(self, record: JobRecord, watch: Watch, done: dict[str, Any]) -> None:
        timings: dict[str, float] = {**done["timings"]}
        with _phase("png", timings):
            pixels = np.frombuffer(done["image"], np.uint8).reshape(done["height"], done["width"], 3)
            params = Recipe.of(record.input)
            png = encode_png(pixels, params, model=record.input["model"], revision=done["revision"])
        with _phase("store", timings):
            image = self._keep(record, watch, png)
        if image is None:
            return
        result = {**asdict(image), "width": done["width"], "height": done["height"]}
        entered = self._endings.until_redis_answers(
            lambda: self._claims.finish(
                record.id,
                record.token,
                State.SUCCEEDED,
                result=result,
                timings=timings,
                notices=done["notices"],
                revision=done["revision"],
                phase="done",
            )
        )
        self._hear({**done, "kind": "finished", "timings": timings})
        tracing.note(panoramas__outcome=str(entered or "late"))
        log.info("job %s: %s", record.id, entered or "a late attempt; its picture is dropped")
        if entered != State.SUCCEEDED:
            try:
                self._store.delete(image.key)
            except StoreError as error:
                log.warning("job %s: %s; left to the sweep", record.id, error)

    def _keep(self, record: JobRecord, watch: Watch, png: bytes) -> StoredImage | None:
        """Write the picture, again for a while where that fails: it is painted, and painting it again costs more.

        None when the job was let go instead.
        """
        give_up = time.monotonic() + self._limits.store_timeout
        while True:
            try:
                return self._store.put(record.id, record.token, png)
            except StoreError as error:
                log.warning("job %s: %s", record.id, error)
                if watch.canceled.is_set() or watch.lost.is_set() or self._stopping.over():
                    self._endings.let_go(record, watch)
                    return None
                if time.monotonic() > give_up:
                    self._endings.put_back(record, fault("store-failed", str(error)))
                    return None
            time.sleep(self._limits.retry_seconds)


@contextmanager
def _phase(name: str, timings: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    with tracing.span(name):
        yield
    timings[name] = round(time.perf_counter() - start, 4)
