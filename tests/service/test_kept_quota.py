"""What is kept for one owner's jobs is bounded, and what expires makes room."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from jobs import keys
from testkit.http import assert_problem, jobs_made, json_lines
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api

LARGE = {**PANORAMA, "metadata": {"a": "b" * 16_000}}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    owners = ",".join(f"{name}:{hashlib.sha256(name.encode()).hexdigest()}" for name in ("anna", "bert"))
    settings = {"PANORAMAS_MAX_KEPT_MB_PER_KEY": "1", "PANORAMAS_API_KEYS": owners}
    with running_workerless_api(tmp_path_factory.mktemp("small"), **settings) as running:
        running.http.headers["x-api-key"] = "anna"
        yield running


def test_beyond_the_bound_nothing_is_accepted_until_jobs_are_deleted(small: WorkerlessApi) -> None:
    jobs = []
    while (answer := small.http.post("/panoramas", json=LARGE)).status_code == 202:
        jobs.append(answer.json()["id"])
    assert 50 < len(jobs) < 65
    problem = assert_problem(answer, 507)
    assert problem["type"].endswith("kept-full-for-key")
    assert "Delete jobs" in problem["detail"]
    assert int(small.redis.hget(keys.OWNER_BYTES, "anna")) <= 1 << 20
    assert small.http.post("/panoramas", json=LARGE, headers={"x-api-key": "bert"}).status_code == 202
    for job in jobs[:2]:
        small.http.post(f"/jobs/{job}/cancel")
        assert_problem(small.http.post("/panoramas", json=LARGE), 507)
        assert small.http.delete(f"/jobs/{job}").status_code == 204
        assert small.http.post("/panoramas", json=LARGE).status_code == 202
    before = jobs_made(small.stack)
    batch = small.http.post(
        "/batches", content=json_lines([LARGE] * 5), headers={"content-type": "application/x-ndjson"}
    )
    assert_problem(batch, 507)
    assert jobs_made(small.stack) - before < 5


def test_nothing_is_counted_once_all_have_expired(small: WorkerlessApi) -> None:
    headers = {"x-api-key": "bert"}
    listed = small.http.get("/jobs?limit=100", headers=headers).json()["items"]
    for job in [job["id"] for job in listed]:
        small.http.post(f"/jobs/{job}/cancel", headers=headers)
        small.http.delete(f"/jobs/{job}", headers=headers)
    assert small.redis.hget(keys.OWNER_BYTES, "bert") is None


def test_records_of_an_earlier_version_expire_without_a_count(workerless: WorkerlessApi) -> None:
    job = workerless.submit()
    counted = int(workerless.redis.hget(keys.OWNER_BYTES, ""))
    size = int(workerless.redis.hget(keys.job(job["id"]), "size"))
    workerless.redis.hdel(keys.job(job["id"]), "size")
    workerless.http.post(f"/jobs/{job['id']}/cancel")
    assert workerless.http.delete(f"/jobs/{job['id']}").status_code == 204
    assert int(workerless.redis.hget(keys.OWNER_BYTES, "")) == counted
    workerless.redis.hincrby(keys.OWNER_BYTES, "", -size)
