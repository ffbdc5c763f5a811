"""Canceling a job: at once while it waits, by its attempt while it runs, and without effect once it has ended."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from jobs import keys
from jobs.claims import JobClaims
from jobs.envelope import envelope
from jobs.limits import JobLimits
from jobs.record import State
from jobs.scripts import source
from testkit.jobs import FAULT, RESULT, Jobs


def test_a_queued_job_is_canceled_at_once(jobs: Jobs) -> None:
    job_id = jobs.submit()
    assert jobs.cancel(job_id)
    assert jobs.get(job_id).record.state == State.CANCELED
    assert jobs.redis.llen(keys.RQ_LIST) == 0
    assert jobs.worker().claim(job_id) is None
    assert jobs.cancel(job_id), "a second cancel is harmless"
    assert not jobs.cancel("f" * 32), "an unknown job cannot be canceled"


@pytest.mark.parametrize("ending", ["finish", "fail", "release", "lease"])
def test_an_acknowledged_cancel_wins_over_any_end_of_the_attempt(jobs: Jobs, ending: str) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    worker.claim(job_id)
    assert jobs.cancel(job_id)
    assert jobs.get(job_id).record.state == State.RUNNING
    assert worker.renew(job_id, jobs.token(job_id)) == "cancel"
    match ending:
        case "finish":
            worker.finish(job_id, jobs.token(job_id), State.SUCCEEDED, result=RESULT)
        case "fail":
            assert worker.finish(job_id, jobs.token(job_id), State.FAILED, error={}) == State.CANCELED
        case "release":
            worker.release(job_id, jobs.token(job_id), fault=FAULT)
        case "lease":
            jobs.expire_lease(job_id)
            worker.reconcile()
    record = jobs.get(job_id).record
    assert (record.state, record.result) == (State.CANCELED, None)


def test_a_cancel_after_the_end_changes_nothing(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    worker.claim(job_id)
    worker.finish(job_id, jobs.token(job_id), State.SUCCEEDED, result=RESULT)
    assert jobs.cancel(job_id)
    assert jobs.get(job_id).record.state == State.SUCCEEDED


def _race(*calls: Callable[[], Any]) -> None:
    """Make two calls at the same time, in either order."""
    barrier = threading.Barrier(2)

    def run(call: Callable[[], Any]) -> None:
        barrier.wait()
        time.sleep(random.uniform(0, 0.0005))
        call()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _succeed(worker: JobClaims, job_id: str, token: str) -> State | None:
    return worker.finish(job_id, token, State.SUCCEEDED, result=RESULT)


@pytest.mark.parametrize("moment", ["pop", "last step", "commit"])
def test_a_cancel_that_races_the_worker_has_one_outcome_which_stays(jobs: Jobs, moment: str) -> None:
    outcomes = set()
    worker = JobClaims(jobs.server.client(), "a", JobLimits())
    script = jobs.redis.register_script(
        source("cancel")
    )  # called directly: JobBoard's event loop takes longer than the script
    for _ in range(60):
        job_id = jobs.submit()
        cancel = partial(script, args=[envelope(), job_id, 1000])
        if moment == "pop":
            _race(cancel, lambda: worker.claim(jobs.pop() or "none"))
        else:
            worker.claim(job_id)
            token = jobs.token(job_id)
            step = partial(worker.progress, job_id, token, step=5)
            _race(cancel, step if moment == "last step" else partial(_succeed, worker, job_id, token))
        answer = _succeed(worker, job_id, jobs.token(job_id))
        record = jobs.get(job_id).record
        assert record.state in (State.CANCELED, State.SUCCEEDED)
        assert (record.result is not None) == (record.state == State.SUCCEEDED)
        assert answer in (record.state, None)
        jobs.cancel(job_id)
        worker.reconcile()
        assert jobs.get(job_id).record == record
        assert jobs.redis.zscore(keys.RUNNING, job_id) is None
        outcomes.add(record.state)
    if moment == "commit":
        assert outcomes == {State.CANCELED, State.SUCCEEDED}, "each came first at least once"
