"""One attempt at one job: from the claim until its picture is painted, or until it has ended without one."""

from __future__ import annotations

import logging
import time
from typing import Any

from redis.exceptions import RedisError

from jobs import logs, tracing
from jobs.claims import CannotPaint, JobClaims
from jobs.faults import Fault, fault
from jobs.record import JobRecord
from worker.child import ModelProcess, ModelProcessDied
from worker.finishing import Finisher
from worker.leases import Lease, LeaseKeeper
from worker.messages import Done, Failed, Interrupted, Paint, Phase, Preview, Report, Step, Stop, Unavailable
from worker.outcomes import Outcomes, Timeouts
from worker.probation import Probation
from worker.shutdown import Shutdown
from worker.spans import attempt_span, phase_spans

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
# The pause after a job that this worker cannot paint: without it, it would go through the whole queue while the others
# paint.
_REFUSED_SECONDS = 0.1


class AttemptRunner:
    """Claims jobs and has the model process paint them, one at a time."""

    def __init__(
        self,
        claims: JobClaims,
        process: ModelProcess,
        leases: LeaseKeeper,
        finisher: Finisher,
        outcomes: Outcomes,
        timeouts: Timeouts,
        shutdown: Shutdown,
        probation: Probation,
    ) -> None:
        self._claims = claims
        self._process = process
        self._leases = leases
        self._finisher = finisher
        self._outcomes = outcomes
        self._timeouts = timeouts
        self._shutdown = shutdown
        self._probation = probation

    def run(self, job_id: str) -> None:
        """Claim and paint a job. Returns once the finisher has its picture, or the job has ended without one.

        Raises:
            RedisError: when the claim itself failed; then nothing was started.
        """
        if self._shutdown.requested:
            self._claims.hand_back(job_id)  # it came while this worker was already leaving
            return
        try:
            record = self._claims.claim(job_id)
        except CannotPaint:
            log.info("job %s: this worker cannot paint its model, or failed it; left to another", job_id)
            self._shutdown.pause(_REFUSED_SECONDS)
            return
        if record is None:
            log.info("job %s: no longer there to be claimed", job_id)
            return
        self._run_claimed(record)

    def run_refused(self) -> bool:
        """Paint a job that other workers could not paint and this one can. False when there is none.

        Raises:
            RedisError: when a claim failed.
        """
        record = self._claims.claim_refused()
        if record:
            self._run_claimed(record)
        return record is not None

    def _run_claimed(self, record: JobRecord) -> None:
        job_id = record.id
        if self._leases.holds(record):
            log.warning("job %s: this attempt is still being finished here", job_id)
            return
        with logs.job_context(job_id), attempt_span(record):
            self._run(record)

    def _run(self, record: JobRecord) -> None:
        job_id = record.id
        log.info("job %s: attempt %d", job_id, record.attempt)
        lease = self._leases.hold(record)
        handed_over = False
        try:
            if done := self._paint(record, lease):
                self._probation.painted()
                phase_spans(done.timings)
                tracing.annotate(panoramas__outcome="painted")
                handed_over = self._finisher.take(record, lease, done)
                if not handed_over:
                    self._outcomes.stopped(record, lease)
        except ModelProcessDied as error:
            self._replace_process(record, fault("model-process-died", error.reason))
        except RedisError:
            raise
        except Exception as error:
            log.exception("job %s: an attempt failed", job_id)
            self._process.kill()
            self._outcomes.put_back(record, fault("internal-error", f"{type(error).__name__} in the worker"))
        finally:
            if not handed_over:
                self._leases.drop(lease)

    def _paint(self, record: JobRecord, lease: Lease) -> Done | None:
        """The painted picture, or None when the job has ended without one."""
        timeouts, shutdown = self._timeouts, self._shutdown
        self._process.ensure_started()
        self._process.send(Paint(record.id, record.input))
        started = last_report_at = time.monotonic()
        loading = False  # of a model other than the default one
        stop_sent_at: float | None = None
        while True:
            report = self._process.next_report(_POLL_SECONDS)
            now = time.monotonic()
            if report is not None:
                last_report_at = now
                loading = report == Phase("loading")
                if isinstance(report, Done):
                    return report
                if self._handle(record, lease, report):
                    return None
            if timeout := self._silence_fault(now - last_report_at, loading=loading):
                self._replace_process(record, timeout)
                return None
            if now - started > timeouts.job:
                self._process.kill()
                self._outcomes.fail(record, fault("job-timeout", f"not done within {timeouts.job:g} s"))
                return None
            if stop_sent_at is None and (lease.canceled.is_set() or lease.lost.is_set() or shutdown.grace_over()):
                self._process.send(Stop())
                stop_sent_at = now
            stuck = stop_sent_at is not None and now - stop_sent_at > timeouts.stop
            if shutdown.immediate or (stuck and shutdown.grace_over()):
                self._process.kill()  # its current step takes longer than a leaving worker may wait
                self._outcomes.stopped(record, lease)
                return None

    def _replace_process(self, record: JobRecord, why: Fault) -> None:
        """The attempt failed, and the model process with it."""
        self._process.kill()
        self._probation.failed(why)
        self._outcomes.put_back(record, why)

    def _silence_fault(self, seconds: float, *, loading: bool) -> Fault | None:
        """The fault of a model process that has been silent for too long, or None."""
        timeouts = self._timeouts
        if loading or not self._process.loaded:
            late = seconds > timeouts.load
            return fault("load-timeout", f"not loaded within {timeouts.load:g} s") if late else None
        late = seconds > timeouts.step
        return fault("step-timeout", f"no step within {timeouts.step:g} s") if late else None

    def _handle(self, record: JobRecord, lease: Lease, report: Report) -> bool:
        """Act on one report. True when the job has ended."""
        match report:
            case Step() if self._process.has_unread:
                return False  # Redis is slower than the model: only the latest step is recorded
            case Step(step, total_steps):
                self._record_progress(record, lease, report, "stepped_at", step=step, total_steps=total_steps)
                return False
            case Phase(name):
                # The estimate divides the time since this moment by the number of steps.
                moment = "denoising_at" if name == "denoising" else None
                self._record_progress(record, lease, report, moment, phase=name)
                return False
            case Preview(step, image):
                self._show_preview(record, step, bytes(image))
                return False
            case Interrupted():
                self._outcomes.stopped(record, lease)
            case Unavailable(_, reason):
                # The next claim of this job by this worker is refused, and it goes to one that can load the model.
                self._outcomes.put_back(record, fault("model-unavailable", reason), give_back=True)
            case Failed(reason, detail, final=True):
                self._outcomes.fail(record, fault(reason, detail))
            case Failed(reason, detail):
                # The device may now fail every later job. A new process costs less than finding out.
                self._replace_process(record, fault(reason, detail))
            case _:
                return False  # `Ready` and `Loaded` concern the process and not the job
        return True

    def _record_progress(
        self, record: JobRecord, lease: Lease, report: Report, moment: str | None, **fields: Any
    ) -> None:
        tracing.event(type(report).__name__.lower(), **fields)
        try:
            if moment:
                fields[moment] = self._claims.now()
            lease.update(self._claims.progress(record.id, record.token, **fields))
        except RedisError as error:
            log.warning("job %s: progress not recorded: %s", record.id, error)  # the job goes on without it

    def _show_preview(self, record: JobRecord, step: int, image: bytes) -> None:
        try:
            self._claims.preview(record.id, record.token, step, image)
        except RedisError as error:
            log.warning("job %s: preview not stored: %s", record.id, error)  # the job goes on without it
