"""Whose fault a failed attempt was: budgets apart, and another worker's turn before a job fails for good."""

from __future__ import annotations

from typing import Any

import pytest

from jobs import keys
from jobs.abilities import Abilities
from jobs.claims import CannotPaint, JobClaims
from jobs.faults import Blame, fault
from jobs.limits import JobLimits
from jobs.record import JobRecord, State
from testkit.jobs import Jobs

OF_WORKER, OF_JOB, OF_STORE = (fault(name, "why") for name in ("device-error", "out-of-memory", "store-failed"))


def living(jobs: Jobs, name: str, **limits: Any) -> JobClaims:
    claims = JobClaims(jobs.redis, name, JobLimits(lease_seconds=5, dispatch_grace_seconds=0, **limits), Abilities("a"))
    claims.heartbeat()
    return claims


def claimed(worker: JobClaims, jobs: Jobs) -> JobRecord | None:
    """What a worker of the queue would paint next."""
    if record := worker.claim_refused():
        return record
    try:
        return worker.claim(popped) if (popped := jobs.pop()) else None
    except CannotPaint:
        return None


def failed(worker: JobClaims, jobs: Jobs, why: Any = OF_WORKER) -> State | None:
    record = claimed(worker, jobs)
    assert record
    return worker.release(record.id, record.token, fault=why)


def test_faults_of_each_kind_have_a_budget_of_their_own(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), living(jobs, "only")
    kinds: list[tuple[Any, Blame]] = [(OF_WORKER, "worker"), (OF_JOB, "job"), (OF_STORE, "dependency")]
    for times in (1, 2):
        for why, blame in kinds:
            assert failed(worker, jobs, why) == State.QUEUED
            assert jobs.get(job_id).record.faults[blame] == times
    assert failed(worker, jobs, OF_JOB) == State.FAILED
    assert jobs.get(job_id).record.attempt == 7


def test_a_job_fails_for_good_only_after_it_failed_on_two_workers(jobs: Jobs) -> None:
    job_id, broken = jobs.submit(), living(jobs, "broken", max_attempts=1)
    healthy = living(jobs, "healthy", max_attempts=1)
    assert failed(broken, jobs) == State.QUEUED
    assert failed(healthy, jobs) == State.FAILED
    assert jobs.get(job_id).record.attempt == 2


def test_a_worker_alone_tries_a_job_again(jobs: Jobs) -> None:
    jobs.submit()
    worker = living(jobs, "only")
    assert [failed(worker, jobs) for _ in range(3)] == [State.QUEUED, State.QUEUED, State.FAILED]


@pytest.mark.parametrize("why", [OF_WORKER, OF_JOB], ids=["of the worker", "of the job"])
def test_a_worker_that_failed_a_job_leaves_it_to_another_and_takes_the_next(jobs: Jobs, why: Any) -> None:
    first, broken, healthy = jobs.submit(), living(jobs, "broken"), living(jobs, "healthy")
    assert failed(broken, jobs, why) == State.QUEUED
    second = jobs.submit()
    taken = [record.id for _ in range(4) if (record := claimed(broken, jobs))]
    assert taken == [second]
    record = claimed(healthy, jobs)
    assert record
    assert (record.id, record.attempt) == (first, 2)


def test_a_worker_that_waits_on_the_list_is_woken_by_a_job_that_another_refuses(jobs: Jobs) -> None:
    job_id, broken = jobs.submit(), living(jobs, "broken")
    living(jobs, "healthy")
    failed(broken, jobs)
    for _ in range(2):
        with pytest.raises(CannotPaint):
            broken.claim(jobs.pop() or "")
        assert jobs.redis.lrange(keys.RQ_LIST, 0, -1) in ([job_id], [])
    assert jobs.redis.llen(keys.RQ_LIST) == 0, "each worker that refuses it rings once"


@pytest.mark.parametrize("fate", ["died", "is out of service", "cannot paint it"])
def test_a_worker_that_failed_a_job_gets_it_back_when_no_other_can_take_it(jobs: Jobs, fate: str) -> None:
    job_id, failing, other = jobs.submit(), living(jobs, "failing"), living(jobs, "other")
    assert failed(failing, jobs) == State.QUEUED
    assert claimed(failing, jobs) is None
    abilities = Abilities("a")
    if fate == "died":
        other.heartbeat(leaving=True)
    elif fate == "is out of service":
        abilities.take_out("its device fails")
    else:
        jobs.redis.hset(keys.job(job_id), "input", '{"model": "a"}')
        abilities.mark_broken("a", "gone")
    if fate != "died":
        JobClaims(jobs.redis, "other", JobLimits(), abilities).heartbeat()
    record = claimed(failing, jobs)
    assert record
    assert record.id == job_id


def test_a_job_does_not_fail_because_every_worker_is_out_of_service(jobs: Jobs) -> None:
    job_id, first, second = jobs.submit(), living(jobs, "first", model_grace_seconds=0), living(jobs, "second")
    failed(first, jobs)
    assert claimed(first, jobs) is None, "it is set aside for the second"
    for name in ("first", "second"):
        abilities = Abilities("a")
        abilities.take_out("its device fails")
        JobClaims(jobs.redis, name, JobLimits(), abilities).heartbeat()
    second.reconcile()
    assert jobs.get(job_id).record.state == State.QUEUED


def test_the_lease_of_a_dead_worker_is_charged_to_workers(jobs: Jobs) -> None:
    job_id, dead, other = jobs.submit(), living(jobs, "dead"), living(jobs, "other")
    dead.claim(job_id)
    jobs.expire_lease(job_id)
    other.reconcile()
    assert jobs.get(job_id).record.faults == {"job": 0, "worker": 1, "dependency": 0}
    assert jobs.redis.hget(keys.job(job_id), "failed_on") == '["dead"]'
