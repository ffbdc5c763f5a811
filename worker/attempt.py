"""One attempt at one job: from the claim until its picture is painted, whatever happens in between."""

from __future__ import annotations

import logging
import time
from typing import Any

from redis.exceptions import RedisError

from jobs import logs, tracing
from jobs.claims import Fault, JobClaims
from jobs.record import JobRecord
from worker.child import ChildDied, ModelProcess
from worker.endings import Endings, Limits, fault
from worker.finishing import Finisher
from worker.pulse import Pulse, Watch
from worker.spans import attempt_span, phase_spans
from worker.stopping import Stopping

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25


class Attempts:
    """Runs claimed jobs in a model process. `stopping` says when this worker must let go of its job."""

    def __init__(
        self,
        claims: JobClaims,
        child: ModelProcess,
        pulse: Pulse,
        finisher: Finisher,
        endings: Endings,
        limits: Limits,
        stopping: Stopping,
    ) -> None:
        self._claims = claims
        self._child = child
        self._pulse = pulse
        self._finisher = finisher
        self._endings = endings
        self._limits = limits
        self._stopping = stopping

    def run(self, job_id: str) -> None:
        """Claim and paint; returns when the picture is with the finisher, or the job has ended without one.

        Raises:
            RedisError: when the claim itself failed; then nothing was begun.
        """
        record = self._claims.claim(job_id)
        if record is None:
            log.info("job %s: no longer there to be claimed", job_id)
            return
        if self._pulse.watches(record):
            log.warning("job %s: is being finished here", job_id)  # an attempt that is not over is not begun again
            return
        with logs.about(job_id), attempt_span(record):
            self._run(record)

    def _run(self, record: JobRecord) -> None:
        job_id = record.id
        log.info("job %s: attempt %d", job_id, record.attempt)
        watch = self._pulse.watch(record)
        handed_over = False
        try:
            if done := self._paint(record, watch):
                phase_spans(done["timings"])
                tracing.note(panoramas__outcome="painted")
                handed_over = self._finisher.take(record, watch, done)
                if not handed_over:
                    self._endings.let_go(record, watch)
        except ChildDied as error:
            self._child.kill()
            self._endings.put_back(record, fault("model-process-died", error.reason))
        except RedisError:
            raise
        except Exception as error:
            log.exception("job %s: an attempt failed", job_id)
            self._child.kill()
            self._endings.put_back(record, fault("internal-error", f"{type(error).__name__} in the worker"))
        finally:
            if not handed_over:
                self._pulse.unwatch(watch)

    def _paint(self, record: JobRecord, watch: Watch) -> dict[str, Any] | None:
        """The model process's `done`, or None when the job has ended otherwise."""
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
                if message["kind"] == "done":
                    return message
                if self._take(record, watch, message):
                    return None
            if silence := self._broken_silence(now - heard, loading=loading):
                self._child.kill()
                self._endings.put_back(record, silence)
                return None
            if now - begun > limits.job_timeout:
                self._child.kill()
                self._endings.fail(record, fault("job-timeout", f"not done within {limits.job_timeout:g} s"))
                return None
            if told is None and (watch.canceled.is_set() or watch.lost.is_set() or stopping.over()):
                self._child.send("stop")
                told = now
            if stopping.hurried or (told is not None and stopping.over() and now - told > limits.stop_seconds):
                self._child.kill()  # a step that takes longer than a leaving worker may wait
                self._endings.let_go(record, watch)
                return None

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
            case "interrupted":
                self._endings.let_go(record, watch)
            case "failed" if message["final"]:
                self._endings.fail(record, fault(message["reason"], message["detail"]))
            case "failed":
                # The device may be in a state that no later job survives: a new process costs less than finding out.
                self._child.kill()
                self._endings.put_back(record, fault(message["reason"], message["detail"]))
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
