"""One picture is stored while the next is painted: two jobs of one worker at once, and whatever may happen to them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from testkit.fake_model import BROKEN, STEP_SECONDS
from testkit.fake_model_stack import LEASE, images, worker
from testkit.faulty_worker import HANGING_STORE
from testkit.job_checker import JobChecker
from testkit.processes import eventually, files_cannot_grow, model_process_of

chaos = pytest.mark.chaos
Two = tuple[subprocess.Popen[bytes], str, str]


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """While it is there, the store does not answer."""
    path = tmp_path / "held"
    path.touch()
    return path


@pytest.fixture
def both(checker: JobChecker, held: Path) -> Callable[..., Two]:
    """A worker that waits for its store with one job and paints the next."""

    def begin(steps: int = 40, **settings: str) -> Two:
        first, second = checker.submit(), checker.submit(seed=8, num_inference_steps=steps)
        environment = {HANGING_STORE: str(held), STEP_SECONDS: "0.05", **settings}
        process = worker(checker, **environment)
        checker.running(second, step=2)
        assert checker.get(first)["state"] == "running"
        return process, first, second

    return begin


def succeeded(checker: JobChecker, *jobs: str, attempt: int = 1) -> None:
    for job_id in jobs:
        job = checker.ended(job_id)
        assert (job["state"], job["attempt"]) == ("succeeded", attempt)


def painted(checker: JobChecker, job_id: str, steps: int) -> None:
    """Wait until the worker has a job's last step, which it need not tell, and its picture."""
    eventually(lambda: checker.get(job_id)["progress"]["step"] >= steps - 2)
    time.sleep(0.5)


def test_the_next_job_is_painted_while_the_store_is_slow_and_no_third_is_begun(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    _, first, second = both(steps=10)
    third = checker.submit(seed=9)
    painted(checker, second, 10)
    time.sleep(LEASE * 1.5)
    states = [checker.get(job_id)["state"] for job_id in (first, second, third)]
    assert states == ["running", "running", "queued"], "both leases are renewed; a second picture waits for the first"
    held.unlink()
    succeeded(checker, first, second, third)
    timings = checker.get(first)["timings"]
    assert timings["png"] > 0
    assert timings["store"] > LEASE


def test_a_worker_told_to_stop_finishes_what_it_stores_and_what_it_paints(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    process, first, second = both(steps=20)
    behind = checker.submit(seed=9)
    process.send_signal(signal.SIGTERM)
    painted(checker, second, 20)
    assert process.poll() is None
    held.unlink()
    assert process.wait(10) == 0
    succeeded(checker, first, second)
    assert checker.get(behind)["state"] == "queued"


@pytest.mark.parametrize("signals", [pytest.param(1, marks=chaos), 2])
def test_a_worker_that_cannot_wait_for_its_store_puts_both_back(
    checker: JobChecker, both: Callable[..., Two], held: Path, signals: int
) -> None:
    process, first, second = both(steps=60, PANORAMAS_DRAIN_SECONDS="0.5" if signals == 1 else "20")
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    assert process.wait(12) == 0
    assert [checker.get(job_id)["attempt"] for job_id in (first, second)] == [0, 0]
    assert {checker.get(job_id)["queue_position"] for job_id in (first, second)} == {0, 1}
    held.unlink()
    worker(checker)
    succeeded(checker, first, second)


def test_a_worker_killed_with_two_jobs_loses_neither(checker: JobChecker, both: Callable[..., Two], held: Path) -> None:
    process, first, second = both()
    process.kill()
    process.wait()
    held.unlink()
    worker(checker)
    succeeded(checker, first, second, attempt=2)


@chaos
def test_a_worker_stopped_for_longer_than_both_leases_commits_nothing_late(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    process, first, second = both()
    process.send_signal(signal.SIGSTOP)
    worker(checker)
    succeeded(checker, first, second, attempt=2)
    held.unlink()
    process.send_signal(signal.SIGCONT)
    eventually(lambda: f"job {first}: a late attempt" in checker.stack.log(), 20)
    eventually(lambda: images(checker, first) == ["2.png"], 10)
    succeeded(checker, first, second, attempt=2)


@chaos
def test_a_model_process_killed_costs_the_picture_before_nothing(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    process, first, second = both()
    model = model_process_of(process)
    assert model
    model.kill()
    eventually(lambda: checker.get(second)["attempt"] == 2)
    held.unlink()
    succeeded(checker, first)
    succeeded(checker, second, attempt=2)


def test_a_cancel_of_a_picture_that_is_being_stored_has_one_outcome(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    _, first, second = both()
    assert checker.http.post(f"/jobs/{first}/cancel").status_code == 202
    held.unlink()
    assert checker.ended(first)["state"] == "canceled"
    eventually(lambda: images(checker, first) == [], 10)
    succeeded(checker, second)


def test_a_cancel_of_a_picture_that_waits_for_the_one_before_ends_it_at_once(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    _, first, second = both(steps=10)
    painted(checker, second, 10)
    assert checker.http.post(f"/jobs/{second}/cancel").status_code == 202
    assert checker.ended(second)["state"] == "canceled"
    assert checker.get(first)["state"] == "running"
    held.unlink()
    succeeded(checker, first, checker.submit())


@chaos
def test_a_job_canceled_while_the_one_before_is_stored_takes_nothing_with_it(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    _, first, second = both()
    assert checker.http.post(f"/jobs/{second}/cancel").status_code == 202
    assert checker.ended(second)["state"] == "canceled"
    held.unlink()
    succeeded(checker, first)


def test_redis_gone_with_one_job_stored_and_another_painted_costs_neither_an_attempt(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    process, first, second = both()
    checker.stack.redis.kill()
    held.unlink()
    eventually(lambda: "trying again" in checker.stack.log(), 20)
    time.sleep(LEASE)
    checker.stack.redis.start()
    succeeded(checker, first, second)
    assert process.poll() is None


def test_a_store_that_fails_costs_its_job_and_not_the_one_being_painted(
    checker: JobChecker, both: Callable[..., Two], held: Path
) -> None:
    process, first, second = both(steps=100, PANORAMAS_STORE_TIMEOUT="0")
    with files_cannot_grow(psutil.Process(process.pid)):
        held.unlink()
        job = eventually(lambda: (seen := checker.get(first))["state"] == "queued" and seen, 20)
    assert job["attempt"] == 1
    succeeded(checker, first, attempt=2)
    succeeded(checker, second)


def test_a_picture_that_cannot_be_finished_fails_its_job_and_costs_no_other(checker: JobChecker) -> None:
    broken = checker.submit(prompt=BROKEN)
    good = [checker.submit(seed=n) for n in range(3)]
    process = worker(checker)
    succeeded(checker, *good)
    job = checker.ended(broken)
    assert (job["state"], job["attempt"]) == ("failed", 3)
    assert job["error"]["type"] == "urn:panoramas:problem:internal-error"
    assert job["error"]["detail"] == "attempt 3 of 3: ValueError in the worker"
    assert process.poll() is None
