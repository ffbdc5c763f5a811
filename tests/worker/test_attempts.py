"""Real worker processes that get real signals at every point of a job.

Their model processes have no model; `test_model_faults.py` has the faults of real ones, and `test_cancel.py` cancels.
"""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from testkit import faulty_worker
from testkit.fake_model import ENCODING_SECONDS, GARBLED, STEP_SECONDS
from testkit.fake_model_stack import images, signaled_worker, worker
from testkit.faulty_worker import POINTS
from testkit.job_checker import JobChecker
from testkit.processes import eventually, model_process_of

chaos = pytest.mark.chaos


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_loses_nothing(checker: JobChecker, marker: Path, point: str) -> None:
    job_id = checker.submit()
    victim = signaled_worker(checker, marker, point, "SIGKILL")
    assert victim.wait(10) == -signal.SIGKILL
    worker(checker)
    job = checker.ended(job_id)
    assert job["state"] == "succeeded"
    attempts = {"popped": 1, "committed": 1}.get(point, 2)
    assert (job["attempt"], checker.token(job_id)) == (attempts, attempts)
    assert all(name.endswith(".png") for name in images(checker, job_id)), "no half-written file is left"


@pytest.mark.parametrize("sent", ["SIGTERM", pytest.param("SIGINT", marks=chaos)])
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_told_to_stop_at_any_point_finishes_its_job_and_leaves(
    checker: JobChecker, marker: Path, point: str, sent: str
) -> None:
    job_id, next_job = checker.submit(), checker.submit(seed=8)
    victim = signaled_worker(checker, marker, point, sent)
    assert victim.wait(20) == 0
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    if point in ("stored", "committed"):  # the next job may already run, and is then finished too
        assert checker.get(next_job)["state"] in ("queued", "succeeded")
    else:
        assert checker.get(next_job)["state"] == "queued", "it took no further job"
    if point == "step":
        worker(checker)
        assert checker.ended(next_job)["attempt"] == 1


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("popped", marks=chaos),
        pytest.param("claimed", marks=chaos),
        "step",
        "stored",
        pytest.param("committed", marks=chaos),
    ],
)
def test_a_second_sigterm_ends_at_once_and_loses_nothing(checker: JobChecker, marker: Path, point: str) -> None:
    put_back = point not in ("stored", "committed")
    job_id = checker.submit(num_inference_steps=40 if put_back else 5)
    victim = signaled_worker(checker, marker, point, "SIGTERM,SIGTERM", **{STEP_SECONDS: "0.1"})
    assert victim.wait(10) == 0
    if put_back:
        assert (checker.get(job_id)["state"], checker.get(job_id)["attempt"]) == ("queued", 0)
        worker(checker)
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), "an attempt that was stopped on purpose does not count"
    assert checker.token(job_id) == 1 + put_back


def test_a_worker_whose_grace_is_over_puts_its_job_back_at_a_step(checker: JobChecker, marker: Path) -> None:
    job_id = checker.submit(num_inference_steps=100)
    victim = signaled_worker(checker, marker, "step", "SIGTERM", PANORAMAS_DRAIN_SECONDS="0.5", **{STEP_SECONDS: "0.1"})
    assert victim.wait(5) == 0
    job = checker.get(job_id)
    assert (job["state"], job["attempt"], job["queue_position"]) == ("queued", 0, 0)
    worker(checker)
    assert checker.ended(job_id)["attempt"] == 1


@pytest.mark.parametrize(
    ("point", "attempts"),
    [
        pytest.param("popped", 1, marks=chaos),
        pytest.param("claimed", 2, marks=chaos),
        pytest.param("step", 2, marks=chaos),
        ("stored", 2),
        pytest.param("committed", 1, marks=chaos),
    ],
)
def test_a_worker_stopped_for_longer_than_its_lease_commits_nothing_late(
    checker: JobChecker, marker: Path, point: str, attempts: int
) -> None:
    job_id = checker.submit()
    victim = signaled_worker(checker, marker, point, "SIGSTOP")
    worker(checker)
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"], checker.token(job_id)) == ("succeeded", attempts, attempts)
    victim.send_signal(signal.SIGCONT)
    late = {"popped": "no longer there to be claimed", "stored": "a late attempt", "committed": "succeeded"}
    words = [late.get(point, "taken over by another worker"), late.get(point, "a late attempt")]
    eventually(lambda: any(f"job {job_id}: {said}" in checker.stack.log() for said in words), 20)
    eventually(lambda: images(checker, job_id) == [f"{attempts}.png"], 10)
    checker.check(checker.get(job_id))
    assert checker.get(job_id) == job


@pytest.mark.parametrize(
    ("point", "attempts"),
    [
        pytest.param("popped", 1, marks=chaos),
        pytest.param("claimed", 1, marks=chaos),
        ("step", 2),
        ("stored", 1),
        pytest.param("committed", 1, marks=chaos),
    ],
)
def test_a_model_process_killed_at_any_point_loses_nothing(
    checker: JobChecker, marker: Path, point: str, attempts: int
) -> None:
    job_id, next_job = checker.submit(), checker.submit(seed=8)
    victim = signaled_worker(checker, marker, point, "SIGSTOP", **{STEP_SECONDS: "0.2"})
    model = model_process_of(victim)
    assert model
    model.kill()
    eventually(lambda: model.status() == psutil.STATUS_ZOMBIE, 10)  # its parent is still stopped and cannot reap it
    victim.send_signal(signal.SIGCONT)
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", attempts)
    # When the first job was already painted, the process may have been working on the second one.
    assert checker.ended(next_job)["attempt"] <= (2 if attempts == 1 and point != "popped" else 1)
    assert victim.poll() is None


def test_a_model_process_that_stops_responding_is_replaced_and_its_job_begun_again(checker: JobChecker) -> None:
    process = worker(checker, PANORAMAS_STEP_TIMEOUT="1.5", **{STEP_SECONDS: "0.1"})
    job_id = checker.submit(num_inference_steps=10)
    checker.running(job_id, step=1)
    model = model_process_of(process)
    assert model
    model.suspend()
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert not model.is_running()
    assert process.poll() is None


def test_a_model_process_that_never_makes_a_step_fails_its_job_and_says_why(checker: JobChecker) -> None:
    worker(checker, PANORAMAS_STEP_TIMEOUT="0.5", PANORAMAS_MAX_ATTEMPTS="2", **{STEP_SECONDS: "60"})
    job = checker.ended(checker.submit())
    assert (job["state"], job["attempt"]) == ("failed", 2)
    assert job["error"]["type"] == "urn:panoramas:problem:step-timeout"
    assert job["error"]["detail"] == "attempt 2 of 2: no step within 0.5 s"


def test_a_job_past_its_deadline_fails_and_says_so(checker: JobChecker) -> None:
    worker(checker, PANORAMAS_JOB_TIMEOUT="1", **{STEP_SECONDS: "0.2"})
    job = checker.ended(checker.submit(num_inference_steps=100))
    assert (job["state"], job["error"]["detail"]) == ("failed", "not done within 1 s")
    assert checker.ended(checker.submit(num_inference_steps=1))["state"] == "succeeded"


def test_workers_whose_clocks_differ_by_two_minutes_take_nothing_from_each_other(checker: JobChecker) -> None:
    for offset in ("-60", "60"):
        worker(checker, **{faulty_worker.CLOCK: offset, STEP_SECONDS: "0.1"})
    jobs = [checker.ended(job_id) for job_id in [checker.submit(seed=n, num_inference_steps=30) for n in range(2)]]
    assert [(job["state"], job["attempt"]) for job in jobs] == [("succeeded", 1)] * 2


def test_a_model_process_that_sends_no_message_is_replaced_as_if_it_had_died(checker: JobChecker) -> None:
    process = worker(checker)
    job = checker.ended(checker.submit(prompt=GARBLED))
    assert (job["state"], job["attempt"]) == ("failed", 3)
    assert job["error"]["type"] == "urn:panoramas:problem:model-process-died"
    assert job["error"]["detail"].startswith("attempt 3 of 3: the model process sent: not a message: ")
    assert checker.ended(checker.submit())["attempt"] == 1
    assert process.poll() is None


def test_the_time_that_encoding_takes_is_not_in_the_estimate(checker: JobChecker) -> None:
    worker(checker, **{ENCODING_SECONDS: "3", STEP_SECONDS: "0.1"})
    job_id = checker.submit(num_inference_steps=100)
    encoding = eventually(lambda: (job := checker.get(job_id))["progress"]["phase"] == "encoding" and job, 20)
    assert (encoding["progress"]["step"], encoding["eta_seconds"]) == (0, None)
    job = checker.running(job_id, step=1)
    assert job["progress"]["phase"] == "denoising"
    assert job["eta_seconds"] < 60, "100 steps of 0.1 s; with the 3 s of encoding in the first, it would say 300 s"
