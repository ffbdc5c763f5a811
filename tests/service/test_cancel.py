"""`POST /jobs/{id}/cancel` and `POST /batches/{id}/cancel`."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from testkit.http import batch_items, finished, jobs_of_batch, submit
from testkit.processes import eventually
from testkit.workerless import WorkerlessApi


def test_a_running_job_reports_its_steps_and_stops_when_canceled(http: httpx.Client) -> None:
    job_id = submit(http, width=1024, num_inference_steps=200)["id"]
    job = eventually(lambda: _running(http, job_id), 60, "the job has made a step")
    assert 0 < job["progress"]["fraction"] < 1
    assert (job["progress"]["phase"], job["progress"]["total_steps"]) == ("denoising", 200)
    early = http.get(f"/jobs/{job_id}/image")
    assert early.status_code == 409
    assert int(early.headers["retry-after"]) >= 1
    assert http.post(f"/jobs/{job_id}/cancel").status_code == 202
    job = finished(http, job_id)
    assert (job["state"], job["result"]) == ("canceled", None)
    assert job["progress"]["step"] < 200
    late = http.get(f"/jobs/{job_id}/image")
    assert late.status_code == 409
    assert "retry-after" not in late.headers
    assert http.post(f"/jobs/{job_id}/cancel").json()["state"] == "canceled", "a second cancel changes nothing"
    assert finished(http, submit(http)["id"])["state"] == "succeeded", "the worker takes the next job"


def test_a_canceled_batch_makes_no_more_jobs(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    batch = workerless.http.post("/batches", json={"items": batch_items(4)}, headers=headers).json()
    first, second, *_ = jobs_of_batch(workerless.http, batch)
    done, running = workerless.succeed(workerless.claim(first["id"])), workerless.claim(second["id"])
    canceled = workerless.http.post(batch["links"]["cancel"])
    assert (canceled.status_code, canceled.json()["canceled_at"] is None) == (202, False)
    assert canceled.json()["counts"] == {
        **dict.fromkeys(batch["counts"], 0),
        "succeeded": 1,
        "running": 1,
        "canceled": 2,
    }
    assert canceled.json()["state"] == "running", "the running job has yet to see the cancel"
    assert workerless.claims.progress(running.id, running.token, step=1, total_steps=5, phase="denoising") == "cancel"
    workerless.claims.finish(running.id, running.token, running.state.CANCELED)
    ended = workerless.http.post(batch["links"]["cancel"]).json()
    assert (ended["state"], ended["counts"]["canceled"], ended["counts"]["succeeded"]) == ("ended", 3, 1)
    assert workerless.get(done["id"])["state"] == "succeeded"
    assert (
        workerless.http.post("/batches", json={"items": batch_items(4)}, headers=headers).json()["counts"]
        == ended["counts"]
    )


def _running(http: httpx.Client, job_id: str) -> dict[str, Any] | None:
    job = http.get(f"/jobs/{job_id}").json()
    return job if job["state"] == "running" and job["progress"]["step"] > 0 else None
