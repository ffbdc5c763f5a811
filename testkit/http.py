"""Requests that tests send to the API, and the checks that every error answer must pass."""

from __future__ import annotations

import json
from typing import Any

import httpx

from jobs import keys
from testkit.processes import Stack, eventually

PANORAMA = {"prompt": "mountains", "width": 256, "height": 136, "num_inference_steps": 2, "seed": 7}
JSON_LINES = {"content-type": "application/x-ndjson"}


def submit(http: httpx.Client, **changes: Any) -> dict[str, Any]:
    """Submit `PANORAMA` with some fields changed; the job."""
    response = http.post("/panoramas", json={**PANORAMA, **changes})
    assert response.status_code == 202, response.text
    return response.json()


def finished(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job once it has ended."""

    def ended() -> dict[str, Any] | None:
        job = http.get(f"/jobs/{job_id}").json()
        return job if job["state"] not in ("queued", "running") else None

    return eventually(ended, 60, f"job {job_id} ends")


def batch_items(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Items of a batch, which differ in their seeds."""
    return [{**PANORAMA, "num_inference_steps": 5, "seed": seed, **changes} for seed in range(count)]


def json_lines(items: list[Any]) -> bytes:
    """A body of the type `JSON_LINES`."""
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def submit_batch(http: httpx.Client, count: int) -> dict[str, Any]:
    """Submit a batch of `count` items; the batch."""
    response = http.post("/batches", json={"items": batch_items(count)})
    assert response.status_code == 202, response.text
    return response.json()


def jobs_of_batch(http: httpx.Client, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """A batch's jobs in the order of its items."""
    jobs: list[dict[str, Any]] = []
    url: str | None = f"{batch['links']['jobs']}&limit=100"
    while url:
        page = http.get(url)
        jobs += page.json()["items"]
        url = page.links.get("next", {}).get("url")
    return sorted(jobs, key=lambda job: job["batch_index"])


def jobs_made(stack: Stack) -> int:
    """How many jobs the service has ever made."""
    with stack.redis.client() as redis:
        return int(redis.get(keys.SEQUENCE) or 0)


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The response is a problem document of this status; the document."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:panoramas:problem:")
    assert problem["title"]
    assert "Traceback" not in response.text
    return problem
