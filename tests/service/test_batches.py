"""Batches: submit, counts, estimate, and the archive of their images."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from pathlib import Path

import pytest

from jobs import keys
from testkit.http import JSON_LINES, assert_problem, batch_items, jobs_made, jobs_of_batch, json_lines, submit_batch
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api


@pytest.mark.parametrize("as_lines", [False, True])
def test_every_item_becomes_a_job_of_batch_priority(workerless: WorkerlessApi, as_lines: bool) -> None:
    items = [*batch_items(3), {**PANORAMA, "seed": 3, "priority": "interactive", "metadata": {"row": [3]}}]
    if as_lines:
        answer = workerless.http.post("/batches", content=json_lines(items) + b"\n \n", headers=JSON_LINES)
    else:
        answer = workerless.http.post("/batches", json={"items": items})
    batch = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/batches/{batch['id']}")
    assert (batch["total"], batch["accepted"], batch["refused"], batch["state"]) == (4, 4, 0, "running")
    assert batch["counts"]["queued"] == 4
    made = jobs_of_batch(workerless.http, batch)
    assert [(job["batch_index"], job["input"]["seed"]) for job in made] == [(n, n) for n in range(4)]
    assert [job["priority"] for job in made] == ["batch", "batch", "batch", "interactive"]
    assert made[3]["metadata"] == {"row": [3]}
    assert all(job["batch_id"] == batch["id"] for job in made)


@pytest.mark.parametrize("as_lines", [False, True])
def test_one_invalid_item_refuses_the_whole_batch_and_is_named(workerless: WorkerlessApi, as_lines: bool) -> None:
    before = jobs_made(workerless.stack)
    items = [PANORAMA, {**PANORAMA, "width": 130}, {"promt": "a"}, PANORAMA]
    if as_lines:
        answer = workerless.http.post("/batches", content=json_lines(items), headers=JSON_LINES)
    else:
        answer = workerless.http.post("/batches", json={"items": items})
    reported = {(fault["index"], fault["pointer"]) for fault in assert_problem(answer, 422)["errors"]}
    assert {(1, "#/items/1/width"), (2, "#/items/2/promt"), (2, "#/items/2/prompt")} == reported
    assert jobs_made(workerless.stack) == before


def test_a_lenient_submit_accepts_the_valid_items(workerless: WorkerlessApi) -> None:
    body = json_lines([PANORAMA, {**PANORAMA, "width": 130}]) + b'{"prompt": \n' + json_lines([PANORAMA])
    headers = {**JSON_LINES, "prefer": "handling=lenient", "idempotency-key": uuid.uuid4().hex}
    answer = workerless.http.post("/batches", content=body, headers=headers)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "handling=lenient")
    batch = answer.json()
    assert (batch["total"], batch["accepted"], batch["refused"]) == (2, 2, 2)
    assert [(item["index"], item["errors"][0]["pointer"]) for item in batch["errors"]] == [(1, "#/width"), (2, "#")]
    assert [job["batch_index"] for job in jobs_of_batch(workerless.http, batch)] == [0, 3]
    assert workerless.http.post("/batches", content=body, headers=headers).json()["id"] == batch["id"]
    refused = workerless.http.post("/batches", content=b"{}\n", headers=headers)
    assert assert_problem(refused, 422)["errors"][0]["index"] == 0, "without any valid item the batch is refused"


@pytest.mark.parametrize(
    ("body", "headers", "status", "pointer"),
    [
        (b"{}", {}, 422, "#/items"),
        (b'{"items": {}}', {}, 422, "#/items"),
        (b'{"items": []}', {}, 422, "#/items"),
        (b'{"items": [], "more": 1}', {}, 422, "#/more"),
        (b"[", {}, 422, "#"),
        (b"[]", {}, 422, "#/items"),
        (b"", JSON_LINES, 422, "#/items"),
        (b"\n\n", JSON_LINES, 422, "#/items"),
        (b"[1]\n", JSON_LINES, 422, "#/items/0"),
        (b"\xff\n", JSON_LINES, 422, "#/items/0"),
        (b'{"prompt": "a"}\n' * 10_001, JSON_LINES, 422, "#/items"),
        (b"a,b", {"content-type": "text/csv"}, 415, None),
    ],
)
def test_an_invalid_body_is_refused(
    workerless: WorkerlessApi, body: bytes, headers: dict[str, str], status: int, pointer: str | None
) -> None:
    before = jobs_made(workerless.stack)
    answer = workerless.http.post("/batches", content=body, headers={"content-type": "application/json", **headers})
    problem = assert_problem(answer, status)
    assert pointer is None or problem["errors"][0]["pointer"] == pointer
    assert jobs_made(workerless.stack) == before


def test_a_batch_estimates_when_it_will_end(tmp_path: Path) -> None:
    with running_workerless_api(tmp_path) as workerless:
        assert submit_batch(workerless.http, 4)["eta_seconds"] is None, "no job has been painted yet"
        redis = workerless.redis
        redis.hset(keys.PACE, "job_ms", 10_000)
        redis.zadd(keys.WORKERS, {"one": redis.time()[0] * 1000, "two": redis.time()[0] * 1000})
        batch = submit_batch(workerless.http, 5)
        assert batch["eta_seconds"] == 50, "nine jobs on two workers, ten seconds each"
        for job in jobs_of_batch(workerless.http, batch)[:4]:
            workerless.succeed(workerless.claim(job["id"]))
        record = workerless.claim(jobs_of_batch(workerless.http, batch)[4]["id"])
        now = redis.time()[0] * 1000
        workerless.step(record, 3)
        redis.hset(keys.job(record.id), mapping={"denoising_at": now - 9000, "stepped_at": now})
        assert workerless.http.get(batch["links"]["self"]).json()["eta_seconds"] == pytest.approx(6, abs=2)
        workerless.succeed(record)
        assert workerless.http.get(batch["links"]["self"]).json()["eta_seconds"] is None


def test_the_images_of_a_batch_come_as_one_archive(workerless: WorkerlessApi) -> None:
    batch = submit_batch(workerless.http, 4)
    made = jobs_of_batch(workerless.http, batch)
    for job in made[:3]:
        workerless.succeed(workerless.claim(job["id"]))
    next((workerless.stack.folder / "data" / "images" / made[1]["id"]).glob("1-*.png")).unlink()
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


@pytest.mark.parametrize("resumable", [False, True], ids=["without a key", "with a key"])
def test_a_batch_that_fills_the_memory_half_way_says_what_was_accepted(tmp_path: Path, resumable: bool) -> None:
    with running_workerless_api(tmp_path) as own:
        body, headers = {"items": batch_items(600)}, {"idempotency-key": uuid.uuid4().hex} if resumable else {}
        own.redis.config_set("maxmemory", int((own.redis.info("memory")["used_memory"] + 900_000) / 0.9))
        refused = own.http.post("/batches", json=body, headers=headers)
        made = int(own.redis.get(keys.SEQUENCE))
        assert 0 < made < 600, "it broke off half-way"
        detail = assert_problem(refused, 507)["detail"]
        queued = len(own.http.get("/jobs", params={"state": "queued", "limit": 100}).json()["items"])
        if resumable:
            assert detail.startswith(f"{made} of 600 jobs were accepted. Send it again")
            own.redis.config_set("maxmemory", 0)
            answer = own.http.post("/batches", json=body, headers=headers)
            assert (answer.status_code, answer.json()["accepted"]) == (202, 600)
        else:
            assert detail.startswith("Nothing was accepted")
            assert queued == 0
            left = own.redis.keys("*")
            assert not [key for key in left if ":job:" in key or "batch" in key or "index" in key], left
