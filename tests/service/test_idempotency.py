"""A submit that is sent again under its idempotency key makes no second job or batch."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from jobs import keys
from testkit.http import JSON_LINES, assert_problem, batch_items, jobs_made, json_lines
from testkit.processes import eventually
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    """An API of its own, whose queue takes 40 jobs."""
    with running_workerless_api(tmp_path_factory.mktemp("own"), PANORAMAS_MAX_QUEUED="40") as workerless:
        yield workerless


def test_a_hundred_submits_under_one_key_are_one_job(workerless: WorkerlessApi) -> None:
    before, key = jobs_made(workerless.stack), uuid.uuid4().hex

    def post(_: int) -> httpx.Response:
        return workerless.http.post("/panoramas", json=PANORAMA, headers={"idempotency-key": key})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert jobs_made(workerless.stack) == before + 1


def test_a_repeated_submit_gets_the_first_answer_marked_as_replayed(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    first = workerless.http.post("/panoramas", json={**PANORAMA, "seed": None}, headers=headers)
    again = workerless.http.post("/panoramas", json=dict(reversed({**PANORAMA, "seed": None}.items())), headers=headers)
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["input"] == first.json()["input"], "the seed is drawn once"
    assert 86_000 < workerless.redis.ttl(keys.idempotency("", headers["idempotency-key"])) <= 86_400


def test_a_different_request_under_the_same_key_is_refused(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    workerless.http.post("/panoramas", json=PANORAMA, headers=headers)
    before = jobs_made(workerless.stack)
    problem = assert_problem(workerless.http.post("/panoramas", json={**PANORAMA, "seed": 8}, headers=headers), 422)
    assert problem["type"].endswith("idempotency-key-reused")
    assert jobs_made(workerless.stack) == before


def test_a_refused_request_does_not_use_up_its_key(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    assert_problem(workerless.http.post("/panoramas", json={**PANORAMA, "width": 3}, headers=headers), 422)
    answer = workerless.http.post("/panoramas", json=PANORAMA, headers=headers)
    assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (202, None)


@pytest.mark.parametrize("key", ["", "a" * 256, "\xe9", "a\tb"])
def test_an_invalid_key_is_refused(workerless: WorkerlessApi, key: str) -> None:
    problem = assert_problem(
        workerless.http.post("/panoramas", json=PANORAMA, headers={b"idempotency-key": key.encode()}), 422
    )
    assert problem["errors"][0]["pointer"].lower() == "#/idempotency-key"


def test_a_different_batch_under_the_same_key_is_refused(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    first = workerless.http.post("/batches", json={"items": batch_items(2)}, headers=headers).json()
    again = workerless.http.post("/batches", content=json_lines(batch_items(2)), headers={**headers, **JSON_LINES})
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first["id"], "true"), (
        "JSON and JSON lines are the same batch"
    )
    problem = assert_problem(workerless.http.post("/batches", json={"items": batch_items(3)}, headers=headers), 422)
    assert problem["type"].endswith("idempotency-key-reused")
    assert workerless.http.post("/panoramas", json=PANORAMA, headers=headers).status_code == 202, (
        "keys of panoramas and of batches are separate"
    )


@pytest.mark.slow
def test_a_batch_of_ten_thousand_is_made_once_however_often_its_submit_breaks(own: WorkerlessApi) -> None:
    """The queue is too small at first; then the API is killed three times in the middle of the submit."""
    stack, body = own.stack, json_lines(batch_items(10_000))
    headers = {**JSON_LINES, "idempotency-key": "ten-thousand"}
    # More items than the queue can ever hold.
    assert_problem(own.http.post("/batches", content=body, headers=headers), 422)
    stack.environment["PANORAMAS_MAX_QUEUED"] = "20000"

    def made() -> int:
        return int(own.redis.get(keys.SEQUENCE) or 0)

    for target in (500, 3000, 6000):
        stack.stop()
        stack.start_api()
        with ThreadPoolExecutor(1) as pool:
            request = pool.submit(httpx.post, f"{stack.url}/batches", content=body, headers=headers, timeout=60)
            eventually(lambda target=target: made() >= target, 60, "some jobs are made")  # type: ignore[misc]
            stack.processes[0].kill()
            assert isinstance(request.exception(), httpx.TransportError)
        assert target <= made() < 10_000
    stack.stop()
    api = stack.start_api()
    answer = httpx.post(f"{stack.url}/batches", content=body, headers=headers, timeout=60)
    batch = answer.json()
    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (202, "true")
    assert (batch["total"], batch["accepted"], batch["counts"]["queued"], batch["state"]) == (
        10_000,
        10_000,
        10_000,
        "running",
    )
    assert made() == 10_000, "no job is made twice"
    with own.redis.pipeline(transaction=False) as pipe:
        for job_id in own.redis.zrange(keys.batch_index(batch["id"]), 0, -1):
            pipe.hget(keys.job(job_id), "batch_index")
        assert sorted(int(index) for index in pipe.execute()) == list(range(10_000)), "no job is missing"
    assert psutil.Process(api.pid).memory_info().rss < 250 * 2**20
    canceled = httpx.post(f"{stack.url}{batch['links']['cancel']}", timeout=60).json()
    assert (canceled["counts"]["canceled"], canceled["state"]) == (10_000, "ended")


def test_a_batch_that_does_not_fit_the_queue_is_refused_and_can_be_sent_again(own: WorkerlessApi) -> None:
    for _ in range(15):
        own.submit()
    headers = {"idempotency-key": "later"}
    body = {"items": batch_items(30)}
    refused = own.http.post("/batches", json=body, headers=headers)
    assert assert_problem(refused, 429)["type"].endswith("queue-full")
    assert int(refused.headers["retry-after"]) >= 1
    assert jobs_made(own.stack) == 15
    for job in own.http.get("/jobs?limit=100").json()["items"]:
        own.http.post(f"/jobs/{job['id']}/cancel")
    accepted = own.http.post("/batches", json=body, headers=headers)
    assert (accepted.status_code, accepted.json()["accepted"]) == (202, 30)
