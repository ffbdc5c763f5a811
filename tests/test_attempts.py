"""A real worker process and a real signal at every point of a job's life; what must hold afterwards does hold.

Here the model process is a light one: the faults are the worker's. Those of a real one are in `test_model_faults.py`.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tests import faulty_worker
from tests.desk import model_on_paper
from tests.faulty_worker import POINTS
from tests.light_model import STEP_SECONDS
from tests.processes import RedisServer, Stack, eventually, files_cannot_grow, model_process_of, running_stack
from tests.witness import PANORAMA, Witness

LEASE = 2.0
chaos = pytest.mark.chaos


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis and the API, short limits; each test starts workers of its own."""
    folder = tmp_path_factory.mktemp("light")
    redis = RedisServer(folder / "redis", appendfsync="everysec", **{"auto-aof-rewrite-percentage": "0"})
    settings = {
        "LEASE_SECONDS": str(LEASE),
        "DRAIN_SECONDS": "20",
        "STEP_TIMEOUT": "5",
        "STORE_TIMEOUT": "1",
    }
    environment = {f"PANORAMAS_{name}": value for name, value in settings.items()}
    with running_stack(folder, model_on_paper(folder), workers=0, redis=redis, **environment) as stack:
        yield stack


@pytest.fixture
def witness(light: Stack) -> Iterator[Witness]:
    witness = Witness(light)
    yield witness
    witness.http.close()
    for process in [process for process in light.processes if "worker" in process.args]:  # type: ignore[operator]
        process.kill()
        process.wait()
        light.processes.remove(process)
    with light.redis.client() as redis:
        redis.flushall()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Is there once the fault has struck."""
    return tmp_path / "struck"


def worker(witness: Witness, **environment: str) -> subprocess.Popen[bytes]:
    return witness.stack.start_worker("tests.faulty_worker", **environment)


def struck(witness: Witness, marker: Path, point: str, signals: str, **environment: str) -> subprocess.Popen[bytes]:
    """A worker that has just been struck at a point of the waiting job."""
    fault = {faulty_worker.POINT: point, faulty_worker.SIGNALS: signals, faulty_worker.MARKER: str(marker)}
    victim = worker(witness, **fault, **environment)
    eventually(marker.exists, 30, f"{signals} at {point}")
    return victim


def images(witness: Witness, job_id: str) -> list[str]:
    return sorted(path.name for path in (witness.stack.folder / "data" / "images" / job_id).glob("*"))


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
    assert witness.ended(behind)["attempt"] == 1, "the same worker went on with another process"
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


def test_workers_whose_clocks_differ_by_two_minutes_take_nothing_from_each_other(witness: Witness) -> None:
    for offset in ("-60", "60"):
        worker(witness, **{faulty_worker.CLOCK: offset, STEP_SECONDS: "0.1"})
    jobs = [witness.ended(job_id) for job_id in [witness.submit(seed=n, num_inference_steps=30) for n in range(2)]]
    assert [(job["state"], job["attempt"]) for job in jobs] == [("succeeded", 1)] * 2


def _refused(witness: Witness) -> bool:
    answer = witness.http.post("/panoramas", json=PANORAMA)
    if answer.status_code == 202:  # the server notices with its next write to the disk
        return False
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    return True
