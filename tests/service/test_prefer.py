"""`Prefer: wait=N`: a request that waits for the job's end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from service.prefer_header import wait_seconds
from testkit.processes import eventually
from testkit.workerless import PANORAMA, WorkerlessApi


def test_a_submit_can_wait_for_the_end_of_its_job(workerless: WorkerlessApi) -> None:
    with ThreadPoolExecutor(1) as pool:
        body, headers = {**PANORAMA, "prompt": "awaited"}, {"prefer": "respond-async, wait=30"}
        request = pool.submit(workerless.http.post, "/panoramas", json=body, headers=headers)

        def submitted() -> dict[str, Any] | None:
            newest = workerless.http.get("/jobs?state=queued&limit=1").json()["items"]
            return newest[0] if newest and newest[0]["input"]["prompt"] == "awaited" else None

        job = eventually(submitted, 10, "the job is submitted")
        workerless.succeed(workerless.claim(job["id"]))
        answer = request.result()
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=30")
    assert (answer.json()["id"], answer.json()["state"]) == (job["id"], "succeeded")
    assert answer.headers["location"] == f"/jobs/{job['id']}"


def test_waiting_ends_after_the_requested_time(workerless: WorkerlessApi) -> None:
    job_id, started = workerless.submit()["id"], monotonic()
    answer = workerless.http.get(f"/jobs/{job_id}", headers={"prefer": "wait=1"})
    assert 0.9 < monotonic() - started < 5
    assert (answer.json()["state"], answer.headers["preference-applied"]) == ("queued", "wait=1")
    workerless.http.post(f"/jobs/{job_id}/cancel")
    answer = workerless.http.get(f"/jobs/{job_id}", headers={"prefer": "wait=30"})
    assert answer.json()["state"] == "canceled"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=5", 5),
        ("respond-async, wait=5", 5),
        ('Wait="7"; x=1', 7),
        ("wait=9999", 60),
        ("wait=0", 0),
        ("", None),
        ("wait", None),
        ("wait=-1", None),
        ("wait=x", None),
        ("return=minimal", None),
    ],
)
def test_only_a_valid_preference_is_applied(prefer: str, seconds: int | None) -> None:
    assert wait_seconds(prefer, 60) == seconds
