"""Canceling a job that a worker is painting, is storing, or is about to store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from testkit.fake_model import STEP_SECONDS
from testkit.fake_model_stack import images, worker
from testkit.job_checker import JobChecker
from testkit.processes import eventually
from tests.worker.two_jobs import TwoJobs, assert_succeeded, wait_until_painted

chaos = pytest.mark.chaos


def test_a_running_job_is_canceled_within_two_steps_and_the_next_one_begins(checker: JobChecker) -> None:
    worker(checker, **{STEP_SECONDS: "0.25"})
    job_id, next_job = checker.submit(num_inference_steps=100), checker.submit(num_inference_steps=1)
    checker.running(job_id, step=2)
    step = checker.http.post(f"/jobs/{job_id}/cancel").json()["progress"]["step"]
    job = checker.ended(job_id)
    assert job["state"] == "canceled"
    assert job["progress"]["step"] <= step + 2
    started_at = checker.ended(next_job)["started_at"]
    between = datetime.fromisoformat(started_at) - datetime.fromisoformat(job["finished_at"])
    assert between < timedelta(seconds=3)


def test_a_cancel_of_a_picture_that_is_being_stored_has_one_outcome(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    _, first, second = two_jobs()
    assert checker.http.post(f"/jobs/{first}/cancel").status_code == 202
    store_blocker.unlink()
    assert checker.ended(first)["state"] == "canceled"
    eventually(lambda: images(checker, first) == [], 10)
    assert_succeeded(checker, second)


def test_a_cancel_of_a_picture_that_waits_for_the_one_before_ends_it_at_once(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    _, first, second = two_jobs(steps=10)
    wait_until_painted(checker, second, 10)
    assert checker.http.post(f"/jobs/{second}/cancel").status_code == 202
    assert checker.ended(second)["state"] == "canceled"
    assert checker.get(first)["state"] == "running"
    store_blocker.unlink()
    assert_succeeded(checker, first, checker.submit())


@chaos
def test_a_job_canceled_while_the_one_before_is_stored_takes_nothing_with_it(
    checker: JobChecker, two_jobs: Callable[..., TwoJobs], store_blocker: Path
) -> None:
    _, first, second = two_jobs()
    assert checker.http.post(f"/jobs/{second}/cancel").status_code == 202
    assert checker.ended(second)["state"] == "canceled"
    store_blocker.unlink()
    assert_succeeded(checker, first)
