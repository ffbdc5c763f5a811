"""`DELETE /jobs/{id}`."""

from __future__ import annotations

from testkit.http import assert_problem
from testkit.workerless import WorkerlessApi


def test_a_deleted_job_and_its_image_are_gone(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    path = f"/jobs/{job['id']}"
    assert workerless.http.delete(path).status_code == 204
    for method, deleted in (("GET", path), ("GET", f"{path}/image"), ("DELETE", path), ("POST", f"{path}/cancel")):
        assert_problem(workerless.http.request(method, deleted), 410)
    assert not (workerless.stack.folder / "data" / "images" / job["id"]).exists()
    assert job["id"] not in [item["id"] for item in workerless.http.get("/jobs?limit=100").json()["items"]]


def test_a_job_that_has_not_ended_is_not_deleted(workerless: WorkerlessApi) -> None:
    job_id = workerless.submit()["id"]
    assert_problem(workerless.http.delete(f"/jobs/{job_id}"), 409)
    workerless.http.post(f"/jobs/{job_id}/cancel")
    assert workerless.http.delete(f"/jobs/{job_id}").status_code == 204
