"""One attempt at one job: from the claim to the commit, whatever happens in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from redis.exceptions import RedisError

from jobs import logs, tracing
from jobs.claims import Fault, JobClaims
from jobs.record import JobRecord, State
from jobs.store import ImageStore, StoredImage, StoreError
from worker.child import ChildDied, ModelProcess
from worker.pulse import Pulse, Watch
from worker.spans import attempt_span, phase_spans
from worker.stopping import Stopping

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25

_TITLES = {
    "cannot-be-painted": "The request cannot be painted by this model",
    "model-unavailable": "The model cannot be loaded",
    "bad-picture": "The model did not produce a picture",
    "engine-error": "The picture could not be painted",
    "out-of-memory": "The picture does not fit into the device's memory",
    "internal-error": "The worker met an unexpected error",
    "model-process-died": "The model process died",
    "device-error": "The device failed",
    "load-timeout": "The model did not load in time",
    "step-timeout": "The model process stopped making progress",
    "job-timeout": "The job took longer than the server allows",
    "store-failed": "The picture could not be stored",
    "worker-stopped": "The worker was stopped",
}


def fault(reason: str, detail: str) -> Fault:
    """The problem that a job's `error` shows."""
    return Fault(f"urn:panoramas:problem:{reason}", _TITLES[reason], 500, detail)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for loading a model, without a sign from the model process, for painting a job, for tries to store a
    picture, for a step of a worker whose grace is over, and between tries to reach Redis or the store."""

    load_timeout: float
    step_timeout: float
    job_timeout: float
    store_timeout: float
    stop_seconds: float = 5.0
    retry_seconds: float = 1.0

    @property
    def longest(self) -> float:
        """Seconds after which an attempt must be over, were Redis there all the time."""
        return self.job_timeout + self.store_timeout + 120


class Attempts:
    """Runs claimed jobs in a model process. `stopping` says when this worker must let go of its job."""

    def __init__(
        self,
        claims: JobClaims,
        store: ImageStore,
        child: ModelProcess,
        pulse: Pulse,
        limits: Limits,
        stopping: Stopping,
    ) -> None:
        self._claims = claims
        self._store = store
        self._child = child
        self._pulse = pulse
        self._limits = limits
        self._stopping = stopping

    def run(self, job_id: str) -> None:
        """Claim and paint; returns when the job is committed, put back, or somebody else's.

        Raises:
            RedisError: when the claim itself failed; then nothing was begun.
        """
        record = self._claims.claim(job_id)
        if record is None:
            log.info("job %s: no longer there to be claimed", job_id)
            return
        with logs.about(job_id), attempt_span(record):
            self._run(record)

    def _run(self, record: JobRecord) -> None:
        job_id = record.id
        log.info("job %s: attempt %d", job_id, record.attempt)
        watch = self._pulse.watch(record)
        try:
            self._paint(record, watch)
        except ChildDied as error:
            self._child.kill()
            self._put_back(record, fault("model-process-died", error.reason))
        except RedisError:
            raise
        except Exception as error:
            log.exception("job %s: an attempt failed", job_id)
            self._child.kill()
            self._put_back(record, fault("internal-error", f"{type(error).__name__} in the worker"))
        finally:
            self._pulse.unwatch()

    def _paint(self, record: JobRecord, watch: Watch) -> None:
        limits, stopping = self._limits, self._stopping
        self._child.ensure_started()
        self._child.send("paint", input=record.input, job=record.id)
        begun = heard = time.monotonic()
        loading = False  # a model other than the first
        told: float | None = None  # when the model process was told to stop
        while True:
            message = self._child.next_message(_POLL_SECONDS)
            now = time.monotonic()
            if message is not None:
                heard = now
                loading = message.get("phase") == "loading"
                if self._take(record, watch, message):
                    return
            if silence := self._broken_silence(now - heard, loading=loading):
                self._child.kill()
                self._put_back(record, silence)
                return
            if now - begun > limits.job_timeout:
                self._child.kill()
                self._fail(record, fault("job-timeout", f"not done within {limits.job_timeout:g} s"))
                return
            if told is None and (watch.canceled.is_set() or watch.lost.is_set() or stopping.over()):
                self._child.send("stop")
                told = now
            if stopping.hurried or (told is not None and stopping.over() and now - told > limits.stop_seconds):
                self._child.kill()  # a step that takes longer than a leaving worker may wait
                self._let_go(record, watch)
                return

    def _broken_silence(self, seconds: float, *, loading: bool) -> Fault | None:
        """The fault of a model process that has said nothing for longer than it may, or None."""
        limits = self._limits
        if loading or not self._child.loaded:
            late = seconds > limits.load_timeout
            return fault("load-timeout", f"not loaded within {limits.load_timeout:g} s") if late else None
        late = seconds > limits.step_timeout
        return fault("step-timeout", f"no step within {limits.step_timeout:g} s") if late else None

    def _take(self, record: JobRecord, watch: Watch, message: dict[str, Any]) -> bool:
        """Act on one message of the model process; True when the job has ended."""
        match message["kind"]:
            case "step" if self._child.has_said_more:
                return False  # Redis was slower than the model: only the latest step is worth telling
            case "phase" | "step":
                self._report(record, watch, message)
                return False
            case "preview":
                self._show(record, message["step"], message["image"])
                return False
            case "done":
                self._commit(record, watch, message)
            case "interrupted":
                self._let_go(record, watch)
            case "failed" if message["final"]:
                self._fail(record, fault(message["reason"], message["detail"]))
            case "failed":
                # The device may be in a state that no later job survives: a new process costs less than finding out.
                self._child.kill()
                self._put_back(record, fault(message["reason"], message["detail"]))
            case _:
                return False  # `ready` of a process that was started for this job
        return True

    def _report(self, record: JobRecord, watch: Watch, message: dict[str, Any]) -> None:
        fields: dict[str, Any] = {key: message[key] for key in ("phase", "step", "total_steps") if key in message}
        tracing.event(message["kind"], **fields)
        try:
            fields["denoising_at" if message.get("phase") == "denoising" else "stepped_at"] = self._claims.now()
            watch.note(self._claims.progress(record.id, record.token, **fields))
        except RedisError as error:
            log.warning("job %s: progress not recorded: %s", record.id, error)  # the picture matters more

    def _show(self, record: JobRecord, step: int, image: bytes) -> None:
        try:
            self._claims.preview(record.id, record.token, step, image)
        except RedisError as error:
            log.warning("job %s: preview not shown: %s", record.id, error)  # nobody misses it

    def _commit(self, record: JobRecord, watch: Watch, done: dict[str, Any]) -> None:
        phase_spans(done["timings"])
        start = time.perf_counter()
        with tracing.span("store"):
            image = self._keep(record, watch, done["image"])
        if image is None:
            return
        timings = {**done["timings"], "store": round(time.perf_counter() - start, 4)}
        result = {**asdict(image), "width": done["width"], "height": done["height"]}
        entered = self._until_redis_answers(
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
                    self._let_go(record, watch)
                    return None
                if time.monotonic() > give_up:
                    self._put_back(record, fault("store-failed", str(error)))
                    return None
            time.sleep(self._limits.retry_seconds)

    def _let_go(self, record: JobRecord, watch: Watch) -> None:
        """The model process stopped as told: canceled, or put back by a worker that leaves, or no longer ours."""
        if watch.lost.is_set():
            log.warning("job %s: taken over by another worker", record.id)
        elif watch.canceled.is_set():
            self._until_redis_answers(lambda: self._claims.finish(record.id, record.token, State.CANCELED))
        else:
            self._put_back(record, fault("worker-stopped", "the worker was told to stop"), give_back=True)

    def _fail(self, record: JobRecord, why: Fault) -> None:
        tracing.fail(why.detail)
        log.error("job %s: failed: %s", record.id, why.detail)
        self._until_redis_answers(lambda: self._claims.finish(record.id, record.token, State.FAILED, error=asdict(why)))

    def _put_back(self, record: JobRecord, why: Fault, *, give_back: bool = False) -> None:
        if not give_back:
            why = replace(why, detail=f"attempt {record.attempt} of {self._claims.terms.max_attempts}: {why.detail}")
        entered = self._until_redis_answers(
            lambda: self._claims.release(record.id, record.token, fault=why, give_back=give_back)
        )
        tracing.fail(why.detail)
        log.warning("job %s: %s (%s)", record.id, entered or "no longer ours", why.detail)

    def _until_redis_answers(self, write: Callable[[], State | None]) -> State | None:
        """Retry a commit for as long as Redis is away: the work is done, and nobody else can do it cheaper.

        Only a worker whose grace is over gives up; the lease then expires and the job is painted again.
        """
        while True:
            try:
                return write()
            except RedisError as error:
                if self._stopping.over():
                    raise
                log.warning("Redis does not answer: %s; trying again", error)
                time.sleep(self._limits.retry_seconds)
