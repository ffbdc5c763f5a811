"""A real model process that dies, hangs, or loses its device is replaced, and the queue goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import RedisServer, Stack, eventually, running_stack
from tests.witness import Witness

chaos = pytest.mark.chaos


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Stack]:
    """Two workers whose model processes have the fault that a prompt asks for."""
    folder = tmp_path_factory.mktemp("faulty")
    redis = RedisServer(folder / "redis", **{"auto-aof-rewrite-percentage": "0"})
    environment = {"FAULT_MODEL": "tests.faulty_model", "FAULT_FOLDER": str(folder), "PANORAMAS_STEP_TIMEOUT": "6"}
    with running_stack(folder, f"tiny={tiny_model}", workers=0, redis=redis, **environment) as stack:
        for _ in range(2):
            stack.start_worker("tests.faulty_worker")
        yield stack


@pytest.fixture(scope="module")
def witness(faulty: Stack) -> Iterator[Witness]:
    witness = Witness(faulty)
    yield witness
    witness.http.close()


PROMPTS = ["mountains"] * 3 + ["fault kill", "fault memory once", "mountains", "fault sticky once"] + ["mountains"] * 3


@pytest.fixture(scope="module")
def ten_jobs(witness: Witness) -> list[dict[str, Any]]:
    """Ten jobs at once. One kills its process every time, two meet a fault of the device once."""
    ids = [witness.submit(prompt=prompt, seed=seed) for seed, prompt in enumerate(PROMPTS)]
    return [witness.ended(job_id, seconds=180) for job_id in ids]


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
    ten_jobs: list[dict[str, Any]], witness: Witness
) -> None:
    attempts = {prompt: job["attempt"] for prompt, job in zip(PROMPTS, ten_jobs, strict=True)}
    assert (attempts["fault memory once"], attempts["fault sticky once"]) == (2, 2)
    assert attempts["mountains"] == 1, "the last of them came after each fault"
    log = witness.stack.log()
    for words in ("CUDA out of memory", "CUDA error: an illegal memory access was encountered"):
        assert f"queued (attempt 1 of 3: {words}" in log


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
    witness: Witness, fault: str, reason: str, words: str
) -> None:
    job_id, after = witness.submit(prompt=f"fault {fault}"), witness.submit()
    job = witness.ended(job_id, seconds=120)
    assert (job["state"], job["attempt"]) == ("failed", 3)
    assert job["error"]["type"] == f"urn:panoramas:problem:{reason}"
    assert job["error"]["detail"].startswith(f"attempt 3 of 3: {words}")
    assert witness.ended(after)["state"] == "succeeded"


@chaos
def test_a_worker_whose_model_does_not_load_in_time_takes_no_job(faulty: Stack, witness: Witness) -> None:
    hanging = faulty.start_worker("tests.faulty_worker", PANORAMAS_LOAD_TIMEOUT="0.2")
    assert witness.ended(witness.submit())["attempt"] == 1
    assert hanging.poll() is None
    eventually(lambda: "the model process was not ready within 0.2 s; starting another" in faulty.log(), 20)
    hanging.kill()
