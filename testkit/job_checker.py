"""Checks what must hold for a job after every fault, from outside: the API, the images, and the server's own file."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from jobs import keys
from testkit.aof import faults_of, histories
from testkit.processes import Stack, eventually

PANORAMA = {"prompt": "mountains", "width": 160, "height": 128, "num_inference_steps": 5, "seed": 7}
ENDED = ("succeeded", "failed", "canceled")


class JobChecker:
    """Submits jobs to a stack, waits until they end, and checks them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx.Client(base_url=stack.url, timeout=30)

    def submit(self, **changes: Any) -> str:
        answer = self.http.post("/panoramas", json={**PANORAMA, **changes})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def get(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def token(self, job_id: str) -> int:
        """How often the job was started, including attempts that were given back."""
        with self.stack.redis.client() as redis:
            return int(redis.hget(keys.job(job_id), "token") or 0)

    def running(self, job_id: str, step: int = 0) -> dict[str, Any]:
        """The job, once it is running and has made `step` steps."""

        def read() -> dict[str, Any] | None:
            job = self.get(job_id)
            return job if job["state"] == "running" and job["progress"]["step"] >= step else None

        return eventually(read, 60, f"job {job_id} runs")

    def ended(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        """The job, once it has ended, after all checks."""

        def read() -> dict[str, Any] | None:
            job = self.get(job_id)
            return job if job["state"] in ENDED else None

        job = eventually(read, seconds, f"job {job_id} ends\n{self.stack.log()[-4000:]}")
        self.check(job)
        return job

    def check(self, job: dict[str, Any]) -> None:
        """One terminal state, a result exactly if it succeeded, and bytes that match their sha256."""
        history = histories(self.stack.redis.folder)[job["id"]]
        assert faults_of(history) == [], history
        assert history[-1] == job["state"]
        assert (job["result"] is not None) == (job["state"] == "succeeded")
        assert (job["error"] is not None) == (job["state"] == "failed")
        if job["result"]:
            png = self.http.get(job["result"]["url"]).content
            assert hashlib.sha256(png).hexdigest() == job["result"]["sha256"]
            assert len(png) == job["result"]["bytes"]
