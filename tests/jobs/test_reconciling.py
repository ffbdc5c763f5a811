"""Whoever lives puts back the jobs of dead workers, one process at a time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from redis.asyncio import Redis as AsyncRedis

from jobs import keys
from jobs.claims import JobClaims
from jobs.limits import JobLimits
from jobs.reconciling import Reconciler
from jobs.record import State
from jobs.store import ImageStore
from testkit.jobs import RESULT, Jobs
from testkit.processes import eventually
from worker.sweeper import Sweeper


def test_one_process_at_a_time_reconciles_and_another_takes_over(jobs: Jobs) -> None:
    first, second = jobs.worker("first"), jobs.worker("second")
    assert [first.beat(0.2).turn, second.beat(0.2).turn, first.beat(0.2).turn] == [1, 0, 1]
    eventually(lambda: second.beat(0.2).turn, 5, "the first has gone")
    assert not first.beat(0.2).turn
    second.heartbeat(leaving=True)
    assert first.beat(0.2).turn, "one that leaves gives up its turn"


def test_a_process_without_its_turn_says_that_it_lives_and_puts_nothing_back(jobs: Jobs) -> None:
    job_id, other = jobs.submit(), jobs.worker("other")
    jobs.worker("holder").beat(60)
    jobs.worker("dead").claim(job_id)
    jobs.expire_lease(job_id)
    assert other.beat(60) == (0, 0, 0, 0)
    assert jobs.redis.zscore(keys.WORKERS, "other")
    assert jobs.get(job_id).record.state == State.RUNNING


@pytest.mark.parametrize("cancel", [True, False])
def test_without_any_worker_a_dead_attempt_ends_as_it_should(jobs: Jobs, cancel: bool) -> None:
    """As the API and the sender of webhooks do it."""
    job_id = jobs.submit()
    limits = JobLimits(lease_seconds=1)
    JobClaims(jobs.redis, "dead", limits).claim(job_id)
    if cancel:
        jobs.cancel(job_id)

    async def run() -> None:
        async with AsyncRedis.from_url(jobs.server.url, decode_responses=True) as redis:
            reconciler = Reconciler(redis, limits)
            reconciler.start()
            await asyncio.to_thread(eventually, lambda: jobs.get(job_id).record.state != State.RUNNING, 10)
            await reconciler.stop()

    asyncio.run(run())
    assert jobs.get(job_id).record.state == (State.CANCELED if cancel else State.QUEUED)


def test_jobs_wait_while_no_worker_lives_at_all(jobs: Jobs) -> None:
    """A worker that could not paint one has gone, and nobody knows yet what the next can paint."""
    job_id = jobs.submit()
    jobs.redis.zadd(keys.REFUSED, {job_id: 1})
    jobs.worker().reconcile()
    assert jobs.get(job_id).record.state == State.QUEUED


def test_twenty_workers_sweep_each_expired_job_once(jobs: Jobs, tmp_path: Path) -> None:
    class CountingStore(ImageStore):
        deleted: list[str] = []  # noqa: RUF012

        def delete_job(self, job_id: str) -> None:
            self.deleted.append(job_id)
            super().delete_job(job_id)

    worker = jobs.worker(retention_seconds=0)
    ids = [jobs.submit() for _ in range(20)]
    for job_id in ids:
        record = worker.claim(job_id)
        worker.finish(job_id, record.token, State.SUCCEEDED, result=RESULT)
    store = CountingStore(tmp_path.as_uri())
    sweepers = [
        Sweeper(JobClaims(jobs.server.client(), str(number), JobLimits(retention_seconds=0)), store)
        for number in range(20)
    ]
    threads = [threading.Thread(target=sweeper.sweep) for sweeper in sweepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(store.deleted) == sorted(ids)
    assert {jobs.get(job_id).record.state for job_id in ids} == {State.EXPIRED}


def test_a_job_that_a_leaving_worker_popped_goes_to_the_next_one_first(jobs: Jobs) -> None:
    first, second = jobs.submit(), jobs.submit()
    assert jobs.pop() == first
    jobs.worker("leaving").hand_back(first)
    assert [jobs.pop(), jobs.pop()] == [first, second]
    assert (jobs.get(first).record.attempt, jobs.redis.llen(keys.RQ_INTERMEDIATE)) == (0, 2)
