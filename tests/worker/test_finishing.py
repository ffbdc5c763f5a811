"""One picture is stored while the next is painted: what may happen to a worker with two jobs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from testkit.fake_model import BROKEN
from testkit.fake_model_stack import LEASE, images, worker
from testkit.job_checker import JobChecker
from testkit.processes import eventually, files_cannot_grow, model_process_of
from tests.worker.two_jobs import TwoJobs, assert_succeeded, wait_until_painted

chaos = pytest.mark.chaos


def test_the_next_job_is_painted_while_the_store_is_slow_and_no_third_is_begun(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    _, first, second = two_jobs(steps=10)
    third = checker.submit(seed=9)
    wait_until_painted(checker, second, 10)
    time.sleep(LEASE * 1.5)
    states = [checker.get(job_id)["state"] for job_id in (first, second, third)]
    assert states == ["running", "running", "queued"], "both leases are renewed; a second picture waits for the first"
    store_blocker.unlink()
    assert_succeeded(checker, first, second, third)
    timings = checker.get(first)["timings"]
    assert timings["png"] > 0
    assert timings["store"] > LEASE


def test_a_worker_told_to_stop_finishes_what_it_stores_and_what_it_paints(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    process, first, second = two_jobs(steps=20)
    next_job = checker.submit(seed=9)
    process.send_signal(signal.SIGTERM)
    wait_until_painted(checker, second, 20)
    assert process.poll() is None
    store_blocker.unlink()
    assert process.wait(10) == 0
    assert_succeeded(checker, first, second)
    assert checker.get(next_job)["state"] == "queued"


@pytest.mark.parametrize("signals", [pytest.param(1, marks=chaos), 2])
def test_a_worker_that_cannot_wait_for_its_store_puts_both_back(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path, signals: int
) -> None:
    process, first, second = two_jobs(steps=60, PANORAMAS_DRAIN_SECONDS="0.5" if signals == 1 else "20")
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    assert process.wait(12) == 0
    assert [checker.get(job_id)["attempt"] for job_id in (first, second)] == [0, 0]
    assert {checker.get(job_id)["queue_position"] for job_id in (first, second)} == {0, 1}
    store_blocker.unlink()
    worker(checker)
    assert_succeeded(checker, first, second)


def test_a_worker_killed_with_two_jobs_loses_neither(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    process, first, second = two_jobs()
    process.kill()
    process.wait()
    store_blocker.unlink()
    worker(checker)
    assert_succeeded(checker, first, second, attempt=2)


@chaos
def test_a_worker_stopped_for_longer_than_both_leases_commits_nothing_late(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    process, first, second = two_jobs()
    process.send_signal(signal.SIGSTOP)
    worker(checker)
    assert_succeeded(checker, first, second, attempt=2)
    store_blocker.unlink()
    process.send_signal(signal.SIGCONT)
    eventually(lambda: f"job {first}: a late attempt" in checker.stack.log(), 20)
    eventually(lambda: images(checker, first) == ["2.png"], 10)
    assert_succeeded(checker, first, second, attempt=2)


@chaos
def test_a_model_process_killed_costs_the_picture_before_nothing(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    process, first, second = two_jobs()
    model = model_process_of(process)
    assert model
    model.kill()
    eventually(lambda: checker.get(second)["attempt"] == 2)
    store_blocker.unlink()
    assert_succeeded(checker, first)
    assert_succeeded(checker, second, attempt=2)


def test_redis_gone_with_one_job_stored_and_another_painted_costs_neither_an_attempt(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    process, first, second = two_jobs()
    checker.stack.redis.kill()
    store_blocker.unlink()
    eventually(lambda: "trying again" in checker.stack.log(), 20)
    time.sleep(LEASE)
    checker.stack.redis.start()
    assert_succeeded(checker, first, second)
    assert process.poll() is None


def test_a_store_that_fails_costs_neither_its_job_nor_the_one_being_painted_an_attempt(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    process, first, second = two_jobs(steps=100, PANORAMAS_STORE_TIMEOUT="0")
    with files_cannot_grow(psutil.Process(process.pid)):
        store_blocker.unlink()
        job = eventually(lambda: (seen := checker.get(first))["state"] == "queued" and seen, 20)
    assert job["attempt"] == 0
    assert_succeeded(checker, first)
    assert_succeeded(checker, second)


def test_a_picture_that_cannot_be_finished_fails_its_job_and_costs_no_other(checker: JobChecker) -> None:
    broken = checker.submit(prompt=BROKEN)
    good = [checker.submit(seed=n) for n in range(3)]
    process = worker(checker)
    assert_succeeded(checker, *good)
    job = checker.ended(broken)
    assert (job["state"], job["attempt"]) == ("failed", 3)
    assert job["error"]["type"] == "urn:panoramas:problem:internal-error"
    assert job["error"]["detail"] == "attempt 3 of 3: ValueError in the worker"
    assert process.poll() is None
