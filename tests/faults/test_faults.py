"""Faults of Redis, of disks and of the API: a job is refused, or it is accepted and kept."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import httpx
import pytest

from jobs import keys
from jobs.claims import JobClaims
from jobs.limits import JobLimits
from jobs.record import State
from testkit.processes import RedisServer, eventually
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api
from worker.sweeper import Sweeper


@pytest.fixture(scope="module")
def own_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    """An API with its own Redis, which the tests break."""
    redis = RedisServer(tmp_path_factory.mktemp("broken") / "redis", appendfsync="everysec")
    with running_workerless_api(tmp_path_factory.mktemp("workerless"), redis=redis) as workerless:
        yield workerless


def submit(workerless: WorkerlessApi, key: str | None = None) -> httpx.Response:
    return workerless.http.post("/panoramas", json=PANORAMA, headers={"idempotency-key": key} if key else {})


def jobs_made(workerless: WorkerlessApi) -> int:
    return len(list(workerless.redis.scan_iter(f"{keys.JOB}*")))


def assert_refused(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1


def test_a_redis_without_memory_refuses_submits_and_goes_on_with_the_rest(own_api: WorkerlessApi) -> None:
    queued = own_api.submit()["id"]
    record = own_api.claim(queued)
    before = jobs_made(own_api)
    own_api.redis.config_set("maxmemory", 1)
    try:
        assert_refused(submit(own_api), 507)
        assert_refused(submit(own_api, uuid.uuid4().hex), 507)
        assert jobs_made(own_api) == before
        assert own_api.get(queued)["state"] == "running"
        assert own_api.succeed(record)["state"] == "succeeded"
    finally:
        own_api.redis.config_set("maxmemory", 0)
    assert submit(own_api).status_code == 202


@pytest.mark.parametrize("fault", [RedisServer.disk_full, RedisServer.read_only, RedisServer.loading])
def test_a_redis_that_takes_no_writes_refuses_submits_until_it_does(
    own_api: WorkerlessApi, fault: Callable[[RedisServer], AbstractContextManager[None]]
) -> None:
    queued = own_api.submit()["id"]
    accepted = {queued}

    def refused() -> bool:
        answer = submit(own_api, uuid.uuid4().hex)
        if answer.status_code == 202:  # the server notices a full disk at its first write
            accepted.add(answer.json()["id"])
            return False
        assert_refused(answer, 503)
        return True

    with fault(own_api.stack.redis):
        eventually(refused, 20)
        assert_refused(own_api.http.post(f"/jobs/{queued}/cancel"), 503)
    eventually(lambda: submit(own_api).status_code == 202, 20, "no restart is needed")
    own_api.stack.redis.kill()
    own_api.stack.redis.start()
    eventually(lambda: own_api.http.get("/readyz").is_success, 20)
    assert {own_api.get(job_id)["state"] for job_id in accepted} == {"queued"}


def test_a_full_disk_under_the_images_refuses_submits_and_serves_the_rest(tmp_path: Path) -> None:
    with running_workerless_api(tmp_path, PANORAMAS_MIN_FREE_MB=str(2**40)) as workerless:
        assert_refused(submit(workerless), 507)
        assert jobs_made(workerless) == 0
        assert workerless.http.get("/jobs").status_code == 200


@pytest.mark.slow
def test_an_api_killed_behind_the_enqueue_and_asked_again_has_made_one_job(own_api: WorkerlessApi) -> None:
    stack = own_api.stack
    for delay in (0.0, 0.002, 0.01):
        before, key = jobs_made(own_api), uuid.uuid4().hex
        url = stack.url
        sending = threading.Thread(target=_post_and_be_cut_off, args=[url, key])
        sending.start()
        time.sleep(delay)
        stack.processes[-1].kill()
        stack.processes.pop().wait()
        sending.join()
        stack.start_api()
        own_api.http.base_url = stack.url  # type: ignore[assignment]
        assert submit(own_api, key).status_code == 202
        assert submit(own_api, key).headers["idempotency-replayed"] == "true"
        assert jobs_made(own_api) == before + 1


def _post_and_be_cut_off(url: str, key: str) -> None:
    with suppress(httpx.TransportError):
        httpx.post(f"{url}/panoramas", json=PANORAMA, headers={"idempotency-key": key}, timeout=10)


def test_past_its_retention_a_job_is_gone_with_its_image_and_what_crashes_left(own_api: WorkerlessApi) -> None:
    claims = JobClaims(own_api.redis, "a test", JobLimits(lease_seconds=600, retention_seconds=0))
    kept, gone = own_api.done(), own_api.submit()["id"]
    record = own_api.claim(gone)
    stored = own_api.store.put(gone, record.token, b"png")
    result = {"key": stored.key, "sha256": stored.sha256, "bytes": 3, "width": 8, "height": 8}
    claims.finish(gone, record.token, State.SUCCEEDED, result=result)
    images = own_api.stack.folder / "data" / "images"
    late = own_api.store.put(kept["id"], 9, b"of an attempt that came too late")
    half = images / kept["id"] / "1.png#7"
    half.write_bytes(b"half")
    own_api.redis.delete(keys.SWEEP)
    time.sleep(0.01)
    Sweeper(claims, own_api.store, orphan_age=0).sweep()
    assert own_api.get(gone)["state"] == "expired"
    assert own_api.http.get(f"/jobs/{gone}/image").status_code == 410
    assert not (images / gone).exists()
    assert not half.exists()
    assert not (images / late.key).exists()
    assert own_api.http.get(kept["result"]["url"]).status_code == 200


def test_an_image_damaged_on_the_disk_is_never_served(own_api: WorkerlessApi) -> None:
    job = own_api.done()
    (path,) = (own_api.stack.folder / "data" / "images" / job["id"]).iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    answer = own_api.http.get(job["result"]["url"])
    assert (answer.status_code, json.loads(answer.text)["type"]) == (500, "urn:panoramas:problem:image-damaged")


def test_batch_work_waits_behind_interactive_work(own_api: WorkerlessApi) -> None:
    own_api.redis.flushall()
    batch = [own_api.submit(priority="batch") for _ in range(4)]
    interactive = own_api.submit()
    assert (batch[0]["priority"], interactive["priority"]) == ("batch", "interactive")
    places = [own_api.get(job["id"])["queue_position"] for job in (*batch, interactive)]
    assert places == [0, 1, 3, 4, 2]
    refused = own_api.http.post("/panoramas", json={**PANORAMA, "priority": "urgent"})
    assert refused.json()["errors"][0]["pointer"] == "#/priority"
