"""Many panoramas in one submit: all or none or what is good, each once, counted, canceled and fetched together."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from jobs import keys
from testkit.http import assert_problem, jobs_made
from testkit.processes import eventually
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api

LINES = {"content-type": "application/x-ndjson"}


def items(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**PANORAMA, "seed": seed, **changes} for seed in range(count)]


def lines(things: list[Any]) -> bytes:
    return b"".join(json.dumps(thing).encode() + b"\n" for thing in things)


def batch_of(workerless: WorkerlessApi, count: int) -> dict[str, Any]:
    answer = workerless.http.post("/batches", json={"items": items(count)})
    assert answer.status_code == 202, answer.text
    return answer.json()


def listed(workerless: WorkerlessApi, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Jobs of a batch in the order of its items."""
    found, url = [], f"{batch['links']['jobs']}&limit=100"
    while url:
        page = workerless.http.get(url)
        found += page.json()["items"]
        url = page.links.get("next", {}).get("url")
    return sorted(found, key=lambda job: job["batch_index"])


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    with running_workerless_api(tmp_path_factory.mktemp("own"), PANORAMAS_MAX_QUEUED="40") as workerless:
        yield workerless


@pytest.mark.parametrize("as_lines", [False, True])
def test_every_item_becomes_a_job_of_batch_priority(workerless: WorkerlessApi, as_lines: bool) -> None:
    wanted = [*items(3), {**PANORAMA, "seed": 3, "priority": "interactive", "metadata": {"row": [3]}}]
    if as_lines:
        answer = workerless.http.post("/batches", content=lines(wanted) + b"\n \n", headers=LINES)
    else:
        answer = workerless.http.post("/batches", json={"items": wanted})
    batch = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/batches/{batch['id']}")
    assert (batch["total"], batch["accepted"], batch["refused"], batch["state"]) == (4, 4, 0, "running")
    assert batch["counts"]["queued"] == 4
    made = listed(workerless, batch)
    assert [(job["batch_index"], job["input"]["seed"]) for job in made] == [(n, n) for n in range(4)]
    assert [job["priority"] for job in made] == ["batch", "batch", "batch", "interactive"]
    assert made[3]["metadata"] == {"row": [3]}
    assert all(job["batch_id"] == batch["id"] for job in made)


@pytest.mark.parametrize("as_lines", [False, True])
def test_one_bad_item_refuses_all_and_is_named(workerless: WorkerlessApi, as_lines: bool) -> None:
    before = jobs_made(workerless.stack)
    wanted = [PANORAMA, {**PANORAMA, "width": 130}, {"promt": "a"}, PANORAMA]
    if as_lines:
        answer = workerless.http.post("/batches", content=lines(wanted), headers=LINES)
    else:
        answer = workerless.http.post("/batches", json={"items": wanted})
    told = {(fault["index"], fault["pointer"]) for fault in assert_problem(answer, 422)["errors"]}
    assert {(1, "#/items/1/width"), (2, "#/items/2/promt"), (2, "#/items/2/prompt")} == told
    assert jobs_made(workerless.stack) == before


def test_a_lenient_submit_takes_what_is_good(workerless: WorkerlessApi) -> None:
    body = lines([PANORAMA, {**PANORAMA, "width": 130}]) + b'{"prompt": \n' + lines([PANORAMA])
    headers = {**LINES, "prefer": "handling=lenient", "idempotency-key": uuid.uuid4().hex}
    answer = workerless.http.post("/batches", content=body, headers=headers)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "handling=lenient")
    batch = answer.json()
    assert (batch["total"], batch["accepted"], batch["refused"]) == (2, 2, 2)
    assert [(item["index"], item["errors"][0]["pointer"]) for item in batch["errors"]] == [(1, "#/width"), (2, "#")]
    assert [job["batch_index"] for job in listed(workerless, batch)] == [0, 3]
    assert workerless.http.post("/batches", content=body, headers=headers).json()["id"] == batch["id"]
    refused = workerless.http.post("/batches", content=b"{}\n", headers=headers)
    assert assert_problem(refused, 422)["errors"][0]["index"] == 0, "nothing is good"


@pytest.mark.parametrize(
    ("body", "headers", "status", "pointer"),
    [
        (b"{}", {}, 422, "#/items"),
        (b'{"items": {}}', {}, 422, "#/items"),
        (b'{"items": []}', {}, 422, "#/items"),
        (b'{"items": [], "more": 1}', {}, 422, "#/more"),
        (b"[", {}, 422, "#"),
        (b"[]", {}, 422, "#/items"),
        (b"", LINES, 422, "#/items"),
        (b"\n\n", LINES, 422, "#/items"),
        (b"[1]\n", LINES, 422, "#/items/0"),
        (b"\xff\n", LINES, 422, "#/items/0"),
        (b'{"prompt": "a"}\n' * 10_001, LINES, 422, "#/items"),
        (b"a,b", {"content-type": "text/csv"}, 415, None),
    ],
)
def test_what_is_no_batch_is_refused(
    workerless: WorkerlessApi, body: bytes, headers: dict[str, str], status: int, pointer: str | None
) -> None:
    before = jobs_made(workerless.stack)
    answer = workerless.http.post("/batches", content=body, headers={"content-type": "application/json", **headers})
    problem = assert_problem(answer, status)
    assert pointer is None or problem["errors"][0]["pointer"] == pointer
    assert jobs_made(workerless.stack) == before


@pytest.mark.slow
def test_a_batch_of_ten_thousand_is_made_once_however_often_its_submit_breaks(own: WorkerlessApi) -> None:
    """The API is killed in the middle, three times; the queue is too small at first."""
    stack, body = own.stack, lines(items(10_000))
    headers = {**LINES, "idempotency-key": "ten-thousand"}
    assert_problem(own.http.post("/batches", content=body, headers=headers), 422)  # it could never wait here
    stack.environment["PANORAMAS_MAX_QUEUED"] = "20000"

    def made() -> int:
        return int(own.redis.get(keys.SEQUENCE) or 0)

    for aim in (500, 3000, 6000):
        stack.stop()
        stack.start_api()
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(httpx.post, f"{stack.url}/batches", content=body, headers=headers, timeout=60)
            eventually(lambda aim=aim: made() >= aim, 60, "some are made")  # type: ignore[misc]
            stack.processes[0].kill()
            assert isinstance(sent.exception(), httpx.TransportError)
        assert aim <= made() < 10_000
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
    assert made() == 10_000, "no job was made twice"
    with own.redis.pipeline(transaction=False) as pipe:
        for job_id in own.redis.zrange(keys.batch_index(batch["id"]), 0, -1):
            pipe.hget(keys.job(job_id), "batch_index")
        assert sorted(int(index) for index in pipe.execute()) == list(range(10_000)), "and none is missing"
    assert psutil.Process(api.pid).memory_info().rss < 250 * 2**20
    canceled = httpx.post(f"{stack.url}{batch['links']['cancel']}", timeout=60).json()
    assert (canceled["counts"]["canceled"], canceled["state"]) == (10_000, "ended")


def test_another_batch_under_the_same_key_is_refused(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    first = workerless.http.post("/batches", json={"items": items(2)}, headers=headers).json()
    again = workerless.http.post("/batches", content=lines(items(2)), headers={**headers, **LINES})
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first["id"], "true"), "the form is no matter"
    problem = assert_problem(workerless.http.post("/batches", json={"items": items(3)}, headers=headers), 422)
    assert problem["type"].endswith("idempotency-key-reused")
    assert workerless.http.post("/panoramas", json=PANORAMA, headers=headers).status_code == 202, (
        "panoramas have their own"
    )


def test_a_batch_that_the_queue_has_no_room_for_is_refused_and_goes_on_later(own: WorkerlessApi) -> None:
    for _ in range(15):
        own.submit()
    headers = {"idempotency-key": "later"}
    body = {"items": items(30)}
    refused = own.http.post("/batches", json=body, headers=headers)
    assert assert_problem(refused, 429)["type"].endswith("queue-full")
    assert int(refused.headers["retry-after"]) >= 1
    assert jobs_made(own.stack) == 15
    for job in own.http.get("/jobs?limit=100").json()["items"]:
        own.http.post(f"/jobs/{job['id']}/cancel")
    accepted = own.http.post("/batches", json=body, headers=headers)
    assert (accepted.status_code, accepted.json()["accepted"]) == (202, 30)


def test_a_canceled_batch_takes_no_more_jobs(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    batch = workerless.http.post("/batches", json={"items": items(4)}, headers=headers).json()
    first, second, *_ = listed(workerless, batch)
    done, running = workerless.succeed(workerless.claim(first["id"])), workerless.claim(second["id"])
    after = workerless.http.post(batch["links"]["cancel"])
    assert (after.status_code, after.json()["canceled_at"] is None) == (202, False)
    assert after.json()["counts"] == {**dict.fromkeys(batch["counts"], 0), "succeeded": 1, "running": 1, "canceled": 2}
    assert after.json()["state"] == "running", "the one that runs ends within a step"
    assert workerless.claims.progress(running.id, running.token, step=1, total_steps=5, phase="denoising") == "cancel"
    workerless.claims.finish(running.id, running.token, running.state.CANCELED)
    ended = workerless.http.post(batch["links"]["cancel"]).json()
    assert (ended["state"], ended["counts"]["canceled"], ended["counts"]["succeeded"]) == ("ended", 3, 1)
    assert workerless.get(done["id"])["state"] == "succeeded"
    assert (
        workerless.http.post("/batches", json={"items": items(4)}, headers=headers).json()["counts"] == ended["counts"]
    )


def test_a_batch_tells_when_it_will_have_ended(tmp_path: Path) -> None:
    with running_workerless_api(tmp_path) as workerless:
        assert batch_of(workerless, 4)["eta_seconds"] is None, "nobody has painted anything yet"
        redis = workerless.redis
        redis.hset(keys.PACE, "job_ms", 10_000)
        redis.zadd(keys.WORKERS, {"one": redis.time()[0] * 1000, "two": redis.time()[0] * 1000})
        batch = batch_of(workerless, 5)
        assert batch["eta_seconds"] == 50, "nine jobs on two workers, ten seconds each"
        for job in listed(workerless, batch)[:4]:
            workerless.succeed(workerless.claim(job["id"]))
        record = workerless.claim(listed(workerless, batch)[4]["id"])
        now = redis.time()[0] * 1000
        workerless.step(record, 3)
        redis.hset(keys.job(record.id), mapping={"denoising_at": now - 9000, "stepped_at": now})
        assert workerless.http.get(batch["links"]["self"]).json()["eta_seconds"] == pytest.approx(6, abs=2)
        workerless.succeed(record)
        assert workerless.http.get(batch["links"]["self"]).json()["eta_seconds"] is None


def test_an_unchanged_batch_is_not_sent_again(workerless: WorkerlessApi) -> None:
    url = batch_of(workerless, 1)["links"]["self"]
    tag = workerless.http.get(url).headers["etag"]
    assert workerless.http.get(url, headers={"if-none-match": tag}).status_code == 304
    workerless.http.post(f"{url}/cancel")
    assert workerless.http.get(url, headers={"if-none-match": tag}).status_code == 200


def test_the_pictures_of_a_batch_come_as_one_archive(workerless: WorkerlessApi) -> None:
    batch = batch_of(workerless, 4)
    made = listed(workerless, batch)
    for job in made[:3]:
        workerless.succeed(workerless.claim(job["id"]))
    (workerless.stack.folder / "data" / "images" / made[1]["id"] / "1.png").unlink()
    with workerless.http.stream("GET", batch["links"]["images"]) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
        assert "content-length" not in answer.headers
        data = answer.read()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = [f"{index:05d}-{made[index]['id']}.png" for index in (0, 2)]
        assert archive.namelist() == [*names, "manifest.jsonl"]
        assert archive.read(names[1]) == workerless.http.get(f"/jobs/{made[2]['id']}/image").content
        manifest = [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]
    assert [(line["index"], line["file"], line.get("error")) for line in manifest] == [
        (0, names[0], None),
        (1, None, "missing"),
        (2, names[1], None),
    ]


def test_an_unknown_batch_is_404(workerless: WorkerlessApi) -> None:
    for unknown in ("0" * 32, "None", "..%00"):
        for method, rest in (("GET", ""), ("POST", "/cancel"), ("GET", "/images.zip")):
            answer = workerless.http.request(method, f"/batches/{unknown}{rest}")
            assert "batch_id" in assert_problem(answer, 404)["detail"]
    assert_problem(workerless.http.get(f"/jobs?batch={'0' * 32}"), 404)
