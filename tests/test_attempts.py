"""A real worker process and a real signal at every point of a job's life; what must hold afterwards does hold.

Here the model process is a light one: the faults are the worker's. Those of a real one are in `test_model_faults.py`.
"""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tests import faulty_worker
from tests.faulty_worker import POINTS
from tests.light import images, struck, worker
from tests.light_model import STEP_SECONDS
from tests.processes import eventually, model_process_of
from tests.witness import Witness

chaos = pytest.mark.chaos


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_loses_nothing(witness: Witness, marker: Path, point: str) -> None:
    job_id = witness.submit()
    victim = struck(witness, marker, point, "SIGKILL")
    assert victim.wait(10) == -signal.SIGKILL
    worker(witness)
    job = witness.ended(job_id)
    assert job["state"] == "succeeded"
    begun = {"popped": 1, "committed": 1}.get(point, 2)
    assert (job["attempt"], witness.token(job_id)) == (begun, begun)
    assert all(name.endswith(".png") for name in images(witness, job_id)), "no half file in sight"


@pytest.mark.parametrize("sent", ["SIGTERM", pytest.param("SIGINT", marks=chaos)])
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_told_to_stop_at_any_point_finishes_its_job_and_leaves(
    witness: Witness, marker: Path, point: str, sent: str
) -> None:
    job_id, behind = witness.submit(), witness.submit(seed=8)
    victim = struck(witness, marker, point, sent)
    assert victim.wait(20) == 0
    job = witness.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    if point in ("stored", "committed"):  # the next may have been begun meanwhile, and is then finished as well
        assert witness.get(behind)["state"] in ("queued", "succeeded")
    else:
        assert witness.get(behind)["state"] == "queued", "it took no further job"
    if point == "step":
        worker(witness)
        assert witness.ended(behind)["attempt"] == 1


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
def test_a_second_sigterm_ends_at_once_and_loses_nothing(witness: Witness, marker: Path, point: str) -> None:
    put_back = point not in ("stored", "committed")
    job_id = witness.submit(num_inference_steps=40 if put_back else 5)
    victim = struck(witness, marker, point, "SIGTERM,SIGTERM", **{STEP_SECONDS: "0.1"})
    assert victim.wait(10) == 0
    if put_back:
        assert (witness.get(job_id)["state"], witness.get(job_id)["attempt"]) == ("queued", 0)
        worker(witness)
    job = witness.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), "what was stopped on purpose costs no attempt"
    assert witness.token(job_id) == 1 + put_back


def test_a_worker_whose_grace_is_over_puts_its_job_back_at_a_step(witness: Witness, marker: Path) -> None:
    job_id = witness.submit(num_inference_steps=100)
    victim = struck(witness, marker, "step", "SIGTERM", PANORAMAS_DRAIN_SECONDS="0.5", **{STEP_SECONDS: "0.1"})
    assert victim.wait(5) == 0
    job = witness.get(job_id)
    assert (job["state"], job["attempt"], job["queue_position"]) == ("queued", 0, 0)
    worker(witness)
    assert witness.ended(job_id)["attempt"] == 1


@pytest.mark.parametrize(
    ("point", "begun"),
    [
        pytest.param("popped", 1, marks=chaos),
        pytest.param("claimed", 2, marks=chaos),
        pytest.param("step", 2, marks=chaos),
        ("stored", 2),
        pytest.param("committed", 1, marks=chaos),
    ],
)
def test_a_worker_stopped_for_longer_than_its_lease_commits_nothing_late(
    witness: Witness, marker: Path, point: str, begun: int
) -> None:
    job_id = witness.submit()
    victim = struck(witness, marker, point, "SIGSTOP")
    worker(witness)
    job = witness.ended(job_id)
    assert (job["state"], job["attempt"], witness.token(job_id)) == ("succeeded", begun, begun)
    victim.send_signal(signal.SIGCONT)
    late = {"popped": "no longer there to be claimed", "stored": "a late attempt", "committed": "succeeded"}
    words = [late.get(point, "taken over by another worker"), late.get(point, "a late attempt")]
    eventually(lambda: any(f"job {job_id}: {said}" in witness.stack.log() for said in words), 20)
    eventually(lambda: images(witness, job_id) == [f"{begun}.png"], 10)
    witness.check(witness.get(job_id))
    assert witness.get(job_id) == job


@pytest.mark.parametrize(
    ("point", "begun"),
    [
        pytest.param("popped", 1, marks=chaos),
        pytest.param("claimed", 1, marks=chaos),
        ("step", 2),
        ("stored", 1),
        pytest.param("committed", 1, marks=chaos),
    ],
)
def test_a_model_process_killed_at_any_point_loses_nothing(
    witness: Witness, marker: Path, point: str, begun: int
) -> None:
    job_id, behind = witness.submit(), witness.submit(seed=8)
    victim = struck(witness, marker, point, "SIGSTOP", **{STEP_SECONDS: "0.2"})
    model = model_process_of(victim)
    assert model
    model.kill()
    eventually(lambda: model.status() == psutil.STATUS_ZOMBIE, 10)  # whom only its parent, stopped as yet, can bury
    victim.send_signal(signal.SIGCONT)
    job = witness.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", begun)
    # Where the first was painted already, it may have been the one behind that the process was at.
    assert witness.ended(behind)["attempt"] <= (2 if begun == 1 and point != "popped" else 1)
    assert victim.poll() is None


def test_a_model_process_that_stops_responding_is_replaced_and_its_job_begun_again(witness: Witness) -> None:
    process = worker(witness, PANORAMAS_STEP_TIMEOUT="1.5", **{STEP_SECONDS: "0.1"})
    job_id = witness.submit(num_inference_steps=10)
    witness.running(job_id, step=1)
    model = model_process_of(process)
    assert model
    model.suspend()
    job = witness.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert not model.is_running()
    assert process.poll() is None


def test_a_model_process_that_never_makes_a_step_fails_its_job_and_says_why(witness: Witness) -> None:
    worker(witness, PANORAMAS_STEP_TIMEOUT="0.5", PANORAMAS_MAX_ATTEMPTS="2", **{STEP_SECONDS: "60"})
    job = witness.ended(witness.submit())
    assert (job["state"], job["attempt"]) == ("failed", 2)
    assert job["error"]["type"] == "urn:panoramas:problem:step-timeout"
    assert job["error"]["detail"] == "attempt 2 of 2: no step within 0.5 s"


def test_a_job_past_its_deadline_fails_and_says_so(witness: Witness) -> None:
    worker(witness, PANORAMAS_JOB_TIMEOUT="1", **{STEP_SECONDS: "0.2"})
    job = witness.ended(witness.submit(num_inference_steps=100))
    assert (job["state"], job["error"]["detail"]) == ("failed", "not done within 1 s")
    assert witness.ended(witness.submit(num_inference_steps=1))["state"] == "succeeded"


def test_a_running_job_is_canceled_within_two_steps_and_the_next_one_begins(witness: Witness) -> None:
    worker(witness, **{STEP_SECONDS: "0.25"})
    job_id, behind = witness.submit(num_inference_steps=100), witness.submit(num_inference_steps=1)
    witness.running(job_id, step=2)
    step = witness.http.post(f"/jobs/{job_id}/cancel").json()["progress"]["step"]
    job = witness.ended(job_id)
    assert job["state"] == "canceled"
    assert job["progress"]["step"] <= step + 2
    begun = witness.ended(behind)["started_at"]
    between = datetime.fromisoformat(begun) - datetime.fromisoformat(job["finished_at"])
    assert between < timedelta(seconds=3)


def test_workers_whose_clocks_differ_by_two_minutes_take_nothing_from_each_other(witness: Witness) -> None:
    for offset in ("-60", "60"):
        worker(witness, **{faulty_worker.CLOCK: offset, STEP_SECONDS: "0.1"})
    jobs = [witness.ended(job_id) for job_id in [witness.submit(seed=n, num_inference_steps=30) for n in range(2)]]
    assert [(job["state"], job["attempt"]) for job in jobs] == [("succeeded", 1)] * 2
