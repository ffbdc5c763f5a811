"""Generated histories of real processes and signals; `test_histories.py` has simulated ones, which run much faster."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, precondition, rule

from testkit.fake_model import STEP_SECONDS
from testkit.job_checker import ENDED, PANORAMA, JobChecker
from testkit.processes import RedisServer, eventually, model_process_of, running_stack
from testkit.workerless import model_on_paper

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGCONT]


class Processes(RuleBasedStateMachine):
    """One API, server and set of workers per history. The workers are real; their model processes have no model."""

    jobs: Bundle[str] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        folder = Path(self.resources.enter_context(tempfile.TemporaryDirectory(prefix="history-")))
        redis = RedisServer(folder / "redis", **{"auto-aof-rewrite-percentage": "0"})
        environment = {"PANORAMAS_LEASE_SECONDS": "2", "PANORAMAS_STEP_TIMEOUT": "2", STEP_SECONDS: "0.1"}
        models = model_on_paper(folder)
        self.stack = self.resources.enter_context(
            running_stack(folder, models, workers=0, redis=redis, **environment, PANORAMAS_MAX_ATTEMPTS="9")
        )
        self.checker = JobChecker(self.stack)
        self.redis_is_up = True
        self.canceled: set[str] = set()
        self.accepted: list[str] = []
        self.workers: list[subprocess.Popen[bytes]] = []

    def living(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self.workers if worker.poll() is None]

    @rule(target=jobs, steps=st.sampled_from([1, 5, 15]))
    def submit(self, steps: int) -> str:
        answer = self.checker.http.post("/panoramas", json={**PANORAMA, "num_inference_steps": steps})
        assert answer.status_code == (202 if self.redis_is_up else 503)
        if not self.redis_is_up:
            return ""
        self.accepted.append(answer.json()["id"])
        return self.accepted[-1]

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        if job_id:
            answer = self.checker.http.post(f"/jobs/{job_id}/cancel")
            assert answer.status_code == (202 if self.redis_is_up else 503)
            if self.redis_is_up and answer.json()["state"] not in ("succeeded", "failed"):
                self.canceled.add(job_id)

    @precondition(lambda self: len(self.living()) < 3)
    @rule()
    def start_a_worker(self) -> None:
        self.workers.append(self.stack.start_worker("testkit.faulty_worker"))

    @precondition(lambda self: self.living())
    @rule(number=st.integers(0, 2), sent=st.sampled_from(SIGNALS), at_model=st.booleans())
    def send_signal(self, number: int, sent: signal.Signals, at_model: bool) -> None:
        worker = self.living()[number % len(self.living())]
        victim = model_process_of(worker) if at_model else worker
        if victim:
            victim.send_signal(sent)

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0]))
    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    @rule()
    def kill_or_start_redis(self) -> None:
        if self.redis_is_up:
            self.stack.redis.kill()
        else:
            self.stack.redis.start()
        self.redis_is_up = not self.redis_is_up

    def teardown(self) -> None:
        try:
            if not self.redis_is_up:
                self.stack.redis.start()
            eventually(lambda: self.checker.http.get("/readyz").is_success, 20)
            for worker in self.living():
                worker.send_signal(signal.SIGCONT)
            self.workers.append(self.stack.start_worker("testkit.faulty_worker"))
            for job_id in self.accepted:
                job = self.checker.ended(job_id)
                assert job["state"] in ENDED
                assert job["state"] == "canceled" or job_id not in self.canceled
        finally:
            self.checker.http.close()
            self.resources.close()


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_no_history_of_processes_breaks_the_promise() -> None:
    run = Processes.TestCase
    run.settings = settings(
        max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    try:
        run().runTest()
    except httpx.HTTPError as error:
        raise AssertionError("the API went away") from error
