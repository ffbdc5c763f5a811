"""A worker that waits for jobs: what it costs the server, and how it leaves."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError

from jobs import keys
from testkit.fake_model_stack import worker
from testkit.job_checker import JobChecker
from testkit.processes import RedisServer, Stack, eventually
from testkit.workerless import model_on_paper
from worker.main import host_of

_SECONDS = 10.0


@pytest.fixture
def lone_stack(tmp_path: Path) -> Iterator[Stack]:
    """A server and nothing else yet."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    settings = {"PANORAMAS_DATA_DIR": str(tmp_path / "data"), "PANORAMAS_MODELS": model_on_paper(tmp_path)}
    stack = Stack(server, tmp_path, settings)
    yield stack
    stack.stop()
    server.kill()


@pytest.mark.slow
def test_two_idle_workers_send_less_than_one_command_a_second_each(lone_stack: Stack) -> None:
    for _ in range(2):
        lone_stack.start_worker("testkit.faulty_worker")
    with lone_stack.redis.client() as redis:
        eventually(lambda: redis.zcard(keys.WORKERS) == 2, 30)
        time.sleep(2)
        commands = []

        def listen() -> None:
            try:
                with lone_stack.redis.client().monitor() as monitor:
                    for command in monitor.listen():
                        commands.append(command)
            except ConnectionError:
                pass  # the server is killed at the end of the test

        threading.Thread(target=listen, daemon=True).start()
        time.sleep(_SECONDS)
        sent = [command["command"] for command in commands if command["client_type"] != "lua"]
    assert 2 <= len(sent) < 2 * _SECONDS, sent


def idle_worker(checker: JobChecker) -> subprocess.Popen[bytes]:
    """Start a worker, and wait until it waits for a job."""
    process = worker(checker)
    with checker.stack.redis.client() as redis:
        eventually(lambda: any(client["cmd"] == "blmove" for client in redis.client_list()), 30)
    return process


def test_an_idle_worker_leaves_at_once_though_it_waits_for_a_job(checker: JobChecker) -> None:
    process = idle_worker(checker)
    process.send_signal(signal.SIGTERM)
    assert process.wait(4) == 0


def test_a_job_submitted_just_after_sigterm_is_left_to_the_next_worker(checker: JobChecker) -> None:
    process = idle_worker(checker)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.02)  # the signal arrives before the job
    jobs = [checker.submit(seed=seed) for seed in range(2)]
    assert process.wait(10) == 0
    assert [(checker.get(job_id)["state"], checker.token(job_id)) for job_id in jobs] == [("queued", 0)] * 2
    worker(checker)
    assert {checker.ended(job_id)["attempt"] for job_id in jobs} == {1}


def test_the_check_of_a_host_does_not_pass_for_another_whose_name_begins_alike() -> None:
    assert host_of("gpu-2-4711-a1b2c3") == "gpu-2"
    assert host_of("gpu-4711-a1b2c3") == "gpu"
