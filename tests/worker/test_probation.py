"""A worker whose device fails takes itself out of service, and comes back once it can paint."""

from __future__ import annotations

from pathlib import Path

from testkit.fake_model import BROKEN_DEVICE, GARBLED, STEP_SECONDS
from testkit.fake_model_stack import worker
from testkit.job_checker import JobChecker
from testkit.processes import eventually


def test_a_broken_device_beside_a_healthy_one_fails_no_job(checker: JobChecker, tmp_path: Path) -> None:
    fault = tmp_path / "broken"
    fault.touch()
    broken = worker(checker, **{BROKEN_DEVICE: str(fault)})
    eventually(lambda: checker.http.get("/readyz").json()["workers"] == 1, 30)
    worker(checker, **{STEP_SECONDS: "0.05"})
    eventually(lambda: checker.http.get("/readyz").json()["workers"] == 2, 30)
    jobs = [checker.ended(job_id) for job_id in [checker.submit(seed=seed) for seed in range(20)]]
    assert [job["state"] for job in jobs] == ["succeeded"] * 20
    assert max(job["attempt"] for job in jobs) == 2, "a job that it failed goes to the other at once"
    assert sum(job["attempt"] - 1 for job in jobs) <= 2
    ready = checker.http.get("/readyz").json()
    assert (ready["workers"], len(ready["workers_out"])) == (1, 1)
    assert "2 attempts in a row failed: CUDA error" in next(iter(ready["workers_out"].values()))
    assert "panoramas_workers_out 1.0" in checker.http.get("/metrics").text
    assert "this worker takes no jobs until it has painted a picture of its own" in checker.stack.log()
    fault.unlink()
    eventually(lambda: "workers_out" not in checker.http.get("/readyz").json(), 30, "it comes back")
    assert broken.poll() is None


def test_a_broken_device_alone_keeps_its_jobs_until_it_works(checker: JobChecker, tmp_path: Path) -> None:
    fault = tmp_path / "broken"
    fault.touch()
    worker(checker, **{BROKEN_DEVICE: str(fault)})
    jobs = [checker.submit(seed=seed) for seed in range(3)]
    eventually(lambda: "this worker still takes no jobs" in checker.stack.log(), 30)
    assert {checker.get(job_id)["state"] for job_id in jobs} == {"queued"}
    fault.unlink()
    assert {checker.ended(job_id)["state"] for job_id in jobs} == {"succeeded"}


def test_a_job_that_kills_its_process_takes_no_worker_out_for_long(checker: JobChecker) -> None:
    """Its own picture shows that the worker works, so that nobody can take out a fleet with such jobs."""
    worker(checker)
    assert checker.ended(checker.submit(prompt=GARBLED))["state"] == "failed"
    assert checker.ended(checker.submit())["attempt"] == 1
    assert checker.stack.log().count("takes jobs again") == 1


def test_a_worker_whose_model_process_does_not_start_is_not_counted_as_one_that_takes_jobs(checker: JobChecker) -> None:
    worker(checker, FAULT_MODEL="testkit.no_such_module")
    ready = eventually(lambda: (read := checker.http.get("/readyz").json()).get("workers_out") and read, 30)
    assert ready["workers"] == 0
    reason = "its model process does not start: the model process exited with status 1"
    eventually(lambda: reason in checker.http.get("/readyz").json().get("workers_out", {}).values(), 20)
    job_id = checker.submit()
    worker(checker)
    assert checker.ended(job_id)["attempt"] == 1
    eventually(lambda: checker.http.get("/readyz").json()["workers"] == 1, 20)
