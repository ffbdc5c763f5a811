"""Outages of Redis and full disks while real workers run jobs. Their model processes have no model."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from testkit.fake_model import STEP_SECONDS
from testkit.fake_model_stack import images, signaled_worker, worker
from testkit.job_checker import PANORAMA, JobChecker
from testkit.processes import eventually, files_cannot_grow

chaos = pytest.mark.chaos


def test_redis_killed_while_nothing_runs_needs_no_restart_of_anything(checker: JobChecker) -> None:
    process = worker(checker)
    queued = checker.ended(checker.submit())["id"]
    checker.stack.redis.kill()
    time.sleep(1.5)
    checker.stack.redis.start()
    eventually(lambda: checker.http.get("/readyz").is_success, 20)
    assert checker.get(queued)["state"] == "succeeded"
    assert checker.ended(checker.submit(seed=8))["attempt"] == 1
    assert process.poll() is None


@pytest.mark.parametrize("point", [pytest.param("popped", marks=chaos), "step", "stored"])
def test_redis_killed_in_the_middle_of_a_job_costs_no_attempt(checker: JobChecker, marker: Path, point: str) -> None:
    job_id = checker.submit()
    victim = signaled_worker(checker, marker, point, "SIGSTOP")
    checker.stack.redis.kill()
    victim.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    assert checker.http.get(f"/jobs/{job_id}").status_code == 503
    checker.stack.redis.start()
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert victim.poll() is None, "no process needs a restart"


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a job"])
def test_a_worker_told_to_stop_while_redis_is_away_leaves_and_loses_nothing(checker: JobChecker, busy: bool) -> None:
    process = worker(checker, PANORAMAS_DRAIN_SECONDS="1", **{STEP_SECONDS: "0.1" if busy else "0.01"})
    job_id = checker.submit(num_inference_steps=50)
    checker.running(job_id, step=2) if busy else checker.ended(job_id)
    checker.stack.redis.kill()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    checker.stack.redis.start()
    worker(checker)
    assert checker.ended(job_id)["state"] == "succeeded"


def test_rqs_own_tools_see_the_workers_that_live(checker: JobChecker) -> None:
    with checker.stack.redis.client() as redis:
        redis.sadd("rq:workers", "rq:worker:killed-long-ago")
        redis.sadd("rq:workers:panoramas", "rq:worker:killed-long-ago")
        worker(checker)
        checker.ended(checker.submit())
        (name,) = redis.smembers("rq:workers:panoramas")
        assert redis.exists(str(name))
        assert redis.smembers("rq:workers") == {name}


@chaos
def test_a_record_that_cannot_be_read_costs_no_other_job(checker: JobChecker) -> None:
    broken, good = checker.submit(), checker.submit(seed=8)
    with checker.stack.redis.client() as redis:
        redis.hset(f"panoramas:job:{broken}", "input", "{")
        worker(checker)
        assert checker.ended(good)["state"] == "succeeded"
        eventually(lambda: redis.hget(f"panoramas:job:{broken}", "state") == "failed", 60)


@chaos
def test_redis_gone_for_a_minute_costs_no_attempt(checker: JobChecker) -> None:
    process = worker(checker, **{STEP_SECONDS: "0.1"})
    job_id, next_job = checker.submit(num_inference_steps=100), checker.submit(seed=8)
    checker.running(job_id, step=2)
    checker.stack.redis.kill()
    time.sleep(60)
    assert checker.http.post("/panoramas", json=PANORAMA).status_code == 503
    checker.stack.redis.start()
    assert [checker.ended(one)["attempt"] for one in (job_id, next_job)] == [1, 1]
    assert process.poll() is None


def test_a_full_disk_under_redis_refuses_submits_and_keeps_what_was_painted(checker: JobChecker, marker: Path) -> None:
    job_id = checker.submit()
    victim = signaled_worker(checker, marker, "stored", "SIGSTOP")
    with checker.stack.redis.disk_full():
        eventually(lambda: _refused(checker), 20)
        victim.send_signal(signal.SIGCONT)
        eventually(lambda: "trying again" in checker.stack.log(), 20)
        assert checker.get(job_id)["state"] == "running"
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)


def test_a_picture_that_cannot_be_stored_for_a_while_is_stored_later(checker: JobChecker, marker: Path) -> None:
    job_id = checker.submit()
    victim = signaled_worker(checker, marker, "step", "SIGSTOP", PANORAMAS_STORE_TIMEOUT="60")
    with files_cannot_grow(psutil.Process(victim.pid)):
        victim.send_signal(signal.SIGCONT)
        eventually(lambda: checker.get(job_id)["progress"]["phase"] != "queued", 20)
        time.sleep(1.5)
        assert checker.get(job_id)["state"] == "running"
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)


def test_a_disk_that_holds_no_picture_costs_no_attempt(checker: JobChecker) -> None:
    """Nor can the picture be kept, so it is painted again; until then the worker takes no job."""
    process = worker(checker, PANORAMAS_STORE_TIMEOUT="0")
    warm = checker.ended(checker.submit())["id"]
    with files_cannot_grow(psutil.Process(process.pid)):
        job_id = checker.submit(seed=8)
        eventually(lambda: checker.http.get("/readyz").json().get("workers_out"), 20)  # its log cannot grow either
        eventually(lambda: checker.get(job_id)["state"] == "queued", 10)
        time.sleep(1.5)
        assert (checker.get(job_id)["state"], checker.get(job_id)["attempt"]) == ("queued", 0)
        assert images(checker, job_id) == []
    job = checker.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert checker.get(warm)["state"] == "succeeded"


def _refused(checker: JobChecker) -> bool:
    answer = checker.http.post("/panoramas", json=PANORAMA)
    if answer.status_code == 202:  # the server notices at its next write to the disk
        return False
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    return True
