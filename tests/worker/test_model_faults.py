"""A real model process that dies, hangs, or loses its device is replaced, and later jobs run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from testkit.job_checker import JobChecker
from testkit.processes import RedisServer, Stack, eventually, model_process_of, running_stack

chaos = pytest.mark.chaos


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Stack]:
    """Two workers whose model processes have the fault that a prompt names."""
    folder = tmp_path_factory.mktemp("faulty")
    redis = RedisServer(folder / "redis", **{"auto-aof-rewrite-percentage": "0"})
    environment = {"FAULT_MODEL": "testkit.faulty_model", "FAULT_FOLDER": str(folder), "PANORAMAS_STEP_TIMEOUT": "6"}
    with running_stack(folder, f"tiny={tiny_model}", workers=0, redis=redis, **environment) as stack:
        for _ in range(2):
            stack.start_worker("testkit.faulty_worker")
        yield stack


@pytest.fixture(scope="module")
def checker(faulty: Stack) -> Iterator[JobChecker]:
    checker = JobChecker(faulty)
    yield checker
    checker.http.close()


PROMPTS = ["mountains"] * 3 + ["fault kill", "fault memory once", "mountains", "fault sticky once"] + ["mountains"] * 3


def model_processes(checker: JobChecker) -> set[psutil.Process | None]:
    """The model processes of all running workers."""
    return {
        model_process_of(process)
        for process in checker.stack.processes
        if "worker" in process.args and process.poll() is None  # type: ignore[operator]
    }


@pytest.fixture(scope="module")
def ten_jobs(checker: JobChecker) -> list[dict[str, Any]]:
    """Ten jobs at once. One kills its process in every attempt, two have a fault of the device in the first."""
    ids = [checker.submit(prompt=prompt, seed=seed) for seed, prompt in enumerate(PROMPTS)]
    return [checker.ended(job_id, seconds=180) for job_id in ids]


def test_of_ten_jobs_of_which_one_kills_its_process_nine_succeed_and_one_says_why(
    ten_jobs: list[dict[str, Any]],
) -> None:
    poison = ten_jobs[PROMPTS.index("fault kill")]
    assert (poison["state"], poison["attempt"]) == ("failed", 3)
    assert poison["error"] == {
        "type": "urn:panoramas:problem:model-process-died",
        "title": "The model process died",
        "status": 500,
        "detail": "attempt 3 of 3: the model process was killed by SIGKILL",
    }
    assert [job["state"] for job in ten_jobs if job is not poison] == ["succeeded"] * 9


def test_one_fault_of_the_device_costs_one_attempt_and_no_later_job(
    ten_jobs: list[dict[str, Any]], checker: JobChecker
) -> None:
    attempts = {prompt: job["attempt"] for prompt, job in zip(PROMPTS, ten_jobs, strict=True)}
    assert (attempts["fault memory once"], attempts["fault sticky once"]) == (2, 2)
    assert attempts["mountains"] == 1, "the last of them ran after every fault"
    log = checker.stack.log()
    for words in ("CUDA out of memory", "CUDA error: an illegal memory access was encountered"):
        assert f"queued (attempt 1 of 3: {words}" in log


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("shape", "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"),
        ("key", "KeyError: 'time_ids'"),
    ],
)
def test_an_error_that_would_come_again_fails_its_job_at_once_and_keeps_the_warm_process(
    checker: JobChecker, fault: str, words: str
) -> None:
    processes = eventually(lambda: (found := model_processes(checker)) and None not in found and found)
    job = checker.ended(checker.submit(prompt=f"fault {fault}"))
    assert (job["state"], job["attempt"]) == ("failed", 1)
    assert job["error"]["type"] == "urn:panoramas:problem:model-fault"
    assert job["error"]["detail"] == words
    assert model_processes(checker) == processes
    assert checker.ended(checker.submit())["state"] == "succeeded"


@chaos
@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ("abort", "model-process-died", "the model process was killed by SIGABRT"),
        ("memory", "out-of-memory", "CUDA out of memory"),
        ("sticky", "device-error", "CUDA error: an illegal memory access was encountered"),
        ("hang", "step-timeout", "no step within 6 s"),
    ],
)
def test_a_fault_that_comes_every_time_fails_the_job_and_says_why(
    checker: JobChecker, fault: str, reason: str, words: str
) -> None:
    job_id, after = checker.submit(prompt=f"fault {fault}"), checker.submit()
    job = checker.ended(job_id, seconds=120)
    assert (job["state"], job["attempt"]) == ("failed", 3)
    assert job["error"]["type"] == f"urn:panoramas:problem:{reason}"
    assert job["error"]["detail"].startswith(f"attempt 3 of 3: {words}")
    assert checker.ended(after)["state"] == "succeeded"


@chaos
def test_a_worker_whose_model_does_not_load_in_time_takes_no_job(faulty: Stack, checker: JobChecker) -> None:
    hanging = faulty.start_worker("testkit.faulty_worker", PANORAMAS_LOAD_TIMEOUT="0.2")
    assert checker.ended(checker.submit())["attempt"] == 1
    assert hanging.poll() is None
    eventually(lambda: "the model process was not ready within 0.2 s; starting another" in faulty.log(), 20)
    hanging.kill()
