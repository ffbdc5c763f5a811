"""What tests say to the API, and what every answer must be."""

from __future__ import annotations

from typing import Any

import httpx

from jobs import keys
from testkit.processes import Stack, eventually

PANORAMA = {"prompt": "mountains", "width": 256, "height": 136, "num_inference_steps": 2, "seed": 7}


def submit(http: httpx.Client, **changes: Any) -> dict[str, Any]:
    response = http.post("/panoramas", json={**PANORAMA, **changes})
    assert response.status_code == 202, response.text
    return response.json()


def finished(http: httpx.Client, job_id: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        job = http.get(f"/jobs/{job_id}").json()
        return job if job["state"] not in ("queued", "running") else None

    return eventually(ended, 60, f"job {job_id} ends")


def jobs_made(stack: Stack) -> int:
    with stack.redis.client() as redis:
        return int(redis.get(keys.SEQUENCE) or 0)


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:panoramas:problem:")
    assert problem["title"]
    assert "Traceback" not in response.text
    return problem
