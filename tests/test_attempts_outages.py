"""Redis and the disks fail while real workers are at a job; the model process is a light one."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.light import images, struck, worker
from tests.light_model import STEP_SECONDS
from tests.processes import eventually, files_cannot_grow, model_process_of
from tests.witness import PANORAMA, Witness

chaos = pytest.mark.chaos


def test_redis_killed_while_nothing_runs_needs_no_restart_of_anything(witness: Witness) -> None:
    process = worker(witness)
    queued = witness.ended(witness.submit())["id"]
    witness.stack.redis.kill()
    time.sleep(1.5)
    witness.stack.redis.start()
    eventually(lambda: witness.http.get("/readyz").is_success, 20)
    assert witness.get(queued)["state"] == "succeeded"
    assert witness.ended(witness.submit(seed=8))["attempt"] == 1
    assert process.poll() is None


@pytest.mark.parametrize("point", [pytest.param("popped", marks=chaos), "step", "stored"])
def test_redis_killed_in_the_middle_of_a_job_costs_no_attempt(witness: Witness, marker: Path, point: str) -> None:
    job_id = witness.submit()
    victim = struck(witness, marker, point, "SIGSTOP")
    witness.stack.redis.kill()
    victim.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    assert witness.http.get(f"/jobs/{job_id}").status_code == 503
    witness.stack.redis.start()
    job = witness.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert victim.poll() is None, "nothing needs a restart"


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a job"])
def test_a_worker_told_to_stop_while_redis_is_away_leaves_and_loses_nothing(witness: Witness, busy: bool) -> None:
    process = worker(witness, PANORAMAS_DRAIN_SECONDS="1", **{STEP_SECONDS: "0.1" if busy else "0.01"})
    job_id = witness.submit(num_inference_steps=50)
    witness.running(job_id, step=2) if busy else witness.ended(job_id)
    witness.stack.redis.kill()
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    witness.stack.redis.start()
    worker(witness)
    assert witness.ended(job_id)["state"] == "succeeded"


def test_rqs_own_tools_see_the_workers_that_live(witness: Witness) -> None:
    with witness.stack.redis.client() as redis:
        redis.sadd("rq:workers", "rq:worker:killed-long-ago")
        redis.sadd("rq:workers:panoramas", "rq:worker:killed-long-ago")
        worker(witness)
        witness.ended(witness.submit())
        (name,) = redis.smembers("rq:workers:panoramas")
        assert redis.exists(str(name))
        assert redis.smembers("rq:workers") == {name}


@chaos
def test_a_record_that_cannot_be_read_costs_no_other_job(witness: Witness) -> None:
    broken, good = witness.submit(), witness.submit(seed=8)
    with witness.stack.redis.client() as redis:
        redis.hset(f"panoramas:job:{broken}", "input", "{")
        worker(witness)
        assert witness.ended(good)["state"] == "succeeded"
        eventually(lambda: redis.hget(f"panoramas:job:{broken}", "state") == "failed", 60)


@chaos
def test_redis_gone_for_a_minute_costs_no_attempt(witness: Witness) -> None:
    process = worker(witness, **{STEP_SECONDS: "0.1"})
    job_id, behind = witness.submit(num_inference_steps=100), witness.submit(seed=8)
    witness.running(job_id, step=2)
    witness.stack.redis.kill()
    time.sleep(60)
    assert witness.http.post("/panoramas", json=PANORAMA).status_code == 503
    witness.stack.redis.start()
    assert [witness.ended(one)["attempt"] for one in (job_id, behind)] == [1, 1]
    assert process.poll() is None


def test_a_full_disk_under_redis_refuses_submits_and_keeps_what_was_painted(witness: Witness, marker: Path) -> None:
    job_id = witness.submit()
    victim = struck(witness, marker, "stored", "SIGSTOP")
    with witness.stack.redis.disk_full():
        eventually(lambda: _refused(witness), 20)
        victim.send_signal(signal.SIGCONT)
        eventually(lambda: "trying again" in witness.stack.log(), 20)
        assert witness.get(job_id)["state"] == "running"
    job = witness.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)


def test_a_picture_that_cannot_be_stored_for_a_while_is_stored_later(witness: Witness, marker: Path) -> None:
    job_id = witness.submit()
    victim = struck(witness, marker, "step", "SIGSTOP", PANORAMAS_STORE_TIMEOUT="60")
    with files_cannot_grow(psutil.Process(victim.pid)):
        victim.send_signal(signal.SIGCONT)
        eventually(lambda: witness.get(job_id)["progress"]["phase"] != "queued", 20)
        time.sleep(1.5)
        assert witness.get(job_id)["state"] == "running"
    job = witness.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)


def test_a_picture_that_can_never_be_stored_fails_its_job_and_says_why(witness: Witness) -> None:
    process = worker(witness, PANORAMAS_STORE_TIMEOUT="0")
    eventually(lambda: model_process_of(process), 20)
    with files_cannot_grow(psutil.Process(process.pid)):
        job_id = witness.submit()
        job = witness.ended(job_id)
    assert (job["state"], job["attempt"]) == ("failed", 3)
    assert job["error"]["type"] == "urn:panoramas:problem:store-failed"
    assert job["error"]["detail"].startswith("attempt 3 of 3: the image cannot be stored")
    assert images(witness, job_id) == []
    assert witness.ended(witness.submit())["state"] == "succeeded"


def _refused(witness: Witness) -> bool:
    answer = witness.http.post("/panoramas", json=PANORAMA)
    if answer.status_code == 202:  # the server notices with its next write to the disk
        return False
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    return True
