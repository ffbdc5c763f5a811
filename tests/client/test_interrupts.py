"""Ctrl-C of a command cancels only the job that is its own, and every command says what it did."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.answers import answering
from testkit.command_line import OURS, look_at, newest, run, started
from testkit.http import jobs_made
from testkit.processes import eventually
from testkit.proxy import Proxy, proxy_to
from testkit.workerless import WorkerlessApi


def interrupted(process: subprocess.Popen[str], seen: list[str], times: int = 1) -> tuple[int, str]:
    """The status and standard error after Ctrl-C, sent once the command follows a job; `seen` has its requests."""
    for _ in range(times):
        eventually(lambda: any("/events" in line for line in seen), 30, "it follows the job")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert "Traceback" not in errors, errors
    return process.returncode, errors


@pytest.fixture
def proxy(workerless: WorkerlessApi) -> Iterator[Proxy]:
    with proxy_to(workerless.stack.url) as running:
        yield running


def test_ctrl_c_of_wait_cancels_nothing_and_says_so(workerless: WorkerlessApi, proxy: Proxy) -> None:
    job = workerless.submit()
    with started("wait", job["id"], "--url", proxy.url) as process:
        status, told = interrupted(process, proxy.requests)
    assert (status, f"Job {job['id']} continues" in told) == (130, True), told
    assert workerless.get(job["id"])["state"] == "queued"


def test_ctrl_c_of_generate_cancels_its_own_job_and_says_so(
    workerless: WorkerlessApi, proxy: Proxy, tmp_path: Path
) -> None:
    before = jobs_made(workerless.stack)
    with started("generate", "hills", "-o", str(tmp_path / "out.png"), "--url", proxy.url, *OURS) as process:
        job = newest(workerless, before)
        status, told = interrupted(process, proxy.requests)
    assert (status, f"job {job['id']} is canceled" in told) == (130, True), told
    assert workerless.get(job["id"])["state"] == "canceled"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_of_generate_while_it_is_painted_stops_it_within_a_step(
    workerless: WorkerlessApi, proxy: Proxy, tmp_path: Path
) -> None:
    before = jobs_made(workerless.stack)
    with started("generate", "hills", "-o", str(tmp_path / "out.png"), "--url", proxy.url, *OURS) as process:
        record = workerless.claim(newest(workerless, before)["id"])
        workerless.step(record, 2)
        status, told = interrupted(process, proxy.requests)
    assert (status, f"job {record.id} ends within a step" in told) == (130, True), told


def test_ctrl_c_of_generate_under_a_key_leaves_the_job_for_the_next_time(
    workerless: WorkerlessApi, proxy: Proxy, tmp_path: Path
) -> None:
    before = jobs_made(workerless.stack)
    command = ["generate", "hills", "-o", "out.png", "--url", proxy.url, *OURS, "--idempotency-key", tmp_path.name]
    with started(*command, cwd=tmp_path) as process:
        job = newest(workerless, before)
        status, told = interrupted(process, proxy.requests)
    assert (status, "continues" in told) == (130, True), told
    workerless.succeed(workerless.claim(job["id"]))
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert jobs_made(workerless.stack) == before + 1
    assert look_at(tmp_path / "out.png")[1] == (256, 136)


def test_a_job_whose_service_goes_away_is_named(tmp_path: Path) -> None:
    with answering() as answers:
        answers.body = json.dumps({"id": "a" * 32, "state": "queued"}).encode()
        answers.headers = {"Content-Type": "text/event-stream"}
        command = ["generate", "hills", "-o", str(tmp_path / "out.png"), "--url", answers.url, "--patience", "1"]
        with started(*command) as process:
            eventually(lambda: answers.paths, 30, "it has submitted")
            answers.status = 503
            told = process.communicate(timeout=30)[1]
    assert (process.returncode, f"`panoramas wait {'a' * 32} -o FILE`" in told) == (1, True), told


def test_ctrl_c_of_generate_when_the_service_is_gone_says_what_to_do(tmp_path: Path) -> None:
    with answering() as answers:
        answers.body = json.dumps({"id": "a" * 32, "state": "queued"}).encode()
        answers.headers = {"Content-Type": "text/event-stream"}
        with started("generate", "hills", "-o", str(tmp_path / "out.png"), "--url", answers.url) as process:
            eventually(lambda: answers.paths, 30, "it has submitted")
            answers.status = 503
            status, told = interrupted(process, answers.paths, times=2)
    assert (status, "was not canceled" in told) == (130, True), told
    assert f"panoramas cancel {'a' * 32}" in told
