"""What proxies, browsers and other people's clients do with HTTP beside the usual way."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from jobs import keys
from service.accept import accepts_gzip
from testkit.http import assert_problem, jobs_made, json_lines, submit_batch
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


@pytest.mark.parametrize("path", ["/", "/docs", "/livez", "/readyz", "/models", "/jobs", "/metrics", "/openapi.json"])
def test_head_is_answered_as_get_without_a_body(workerless: WorkerlessApi, path: str) -> None:
    got, head = workerless.http.get(path), workerless.http.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    ignored = {"date", "content-length"} if path == "/metrics" else {"date"}
    assert {k: v for k, v in head.headers.items() if k not in ignored} == {
        k: v for k, v in got.headers.items() if k not in ignored
    }


def test_head_of_a_stream_or_an_archive_ends_at_its_headers(workerless: WorkerlessApi) -> None:
    job, batch = workerless.submit(), submit_batch(workerless.http, 2)
    start = time.monotonic()
    events = workerless.http.head(f"/jobs/{job['id']}/events")
    archive = workerless.http.head(f"/batches/{batch['id']}/images.zip")
    assert (events.status_code, events.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (archive.status_code, archive.headers["content-type"]) == (200, "application/zip")
    assert time.monotonic() - start < 5
    assert workerless.http.head(f"/jobs/{'0' * 32}").status_code == 404
    refused = workerless.http.head("/panoramas")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert workerless.http.put("/jobs").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/jobs/", "/panoramas/", "//jobs", "/models/"])
def test_another_path_is_404_and_leads_nowhere(workerless: WorkerlessApi, path: str) -> None:
    answer = httpx.request("GET", f"{str(workerless.http.base_url).rstrip('/')}{path}")
    assert_problem(answer, 404)
    assert "location" not in answer.headers


@pytest.mark.parametrize("header", [f"bytes={'9' * 5000}-", f"bytes=-{'9' * 5000}", f"bytes=0-{'9' * 5000}"])
def test_a_range_of_many_digits_is_ignored(workerless: WorkerlessApi, header: str) -> None:
    url = workerless.done()["result"]["url"]
    assert workerless.http.get(url, headers={"range": header}).status_code == 200


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("*;q=0", False),
        ("x-gzip", True),
        ("gzipped", False),
        ("", False),
    ],
)
def test_gzip_is_sent_to_those_who_accept_it(workerless: WorkerlessApi, header: str, accepted: bool) -> None:
    assert accepts_gzip(header) == accepted
    answer = workerless.http.get("/", headers={"accept-encoding": header})
    assert (answer.headers.get("content-encoding") == "gzip") == accepted


@pytest.mark.parametrize(
    "path", ["/jobs?status=failed", "/jobs?state=failed&State=x", "/models?a", "/jobs?limit=5&limit=6"]
)
def test_a_parameter_that_would_do_nothing_is_refused(workerless: WorkerlessApi, path: str) -> None:
    problem = assert_problem(workerless.http.get(path), 422)
    assert "in the query" in problem["errors"][0]["detail"]
    many = "&".join(f"a{number}=1" for number in range(3000))
    assert len(assert_problem(workerless.http.get(f"/jobs?{many}"), 422)["errors"]) == 10


def test_an_event_id_of_the_future_ends_no_later_than_the_job(workerless: WorkerlessApi) -> None:
    job = workerless.submit()
    record = workerless.claim(job["id"])
    with workerless.http.stream(
        "GET", f"/jobs/{job['id']}/events", headers={"last-event-id": "9999999999999-0"}, timeout=20
    ) as stream:
        lines = stream.iter_lines()
        assert any(line == "event: job" for line in lines)
        workerless.succeed(record)
        assert '"state":"succeeded"' in "".join(lines)


def test_cancel_of_what_has_ended_is_200(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    answer = workerless.http.post(f"/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert workerless.http.post(f"/jobs/{workerless.submit()['id']}/cancel").status_code == 202
    batch = submit_batch(workerless.http, 2)
    statuses = [workerless.http.post(f"/batches/{batch['id']}/cancel").status_code for _ in range(2)]
    assert statuses == [202, 200]


def test_the_nearest_sizes_are_named_once(workerless: WorkerlessApi) -> None:
    detail = assert_problem(workerless.http.post("/panoramas", json={**PANORAMA, "width": 100}), 422)["detail"]
    assert detail.endswith("(nearest: 128)")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    with running_workerless_api(
        tmp_path_factory.mktemp("own"),
        PANORAMAS_WEBHOOK_SECRET=SECRET,
        PANORAMAS_API_KEYS=f"ann:{hashlib.sha256(b'alice').hexdigest()}",
    ) as running:
        yield running


def test_an_empty_bearer_leaves_the_other_header_to_speak(own: WorkerlessApi) -> None:
    for headers, status in (
        ({"authorization": "Bearer", "x-api-key": "alice"}, 200),
        ({"authorization": "Basic eDp5", "x-api-key": "alice"}, 200),
        ({"authorization": "bearer alice"}, 200),
        ({"authorization": "Bearer x", "x-api-key": "alice"}, 401),
        ({"authorization": "Bearer", "x-api-key": ""}, 401),
    ):
        assert own.http.get("/jobs", headers=headers).status_code == status


@pytest.mark.parametrize("keyed", [True, False])
def test_no_answer_holds_the_master_secret(own: WorkerlessApi, tmp_path: Path, keyed: bool) -> None:
    if keyed:
        answer = own.http.get("/webhooks/secret", headers={"x-api-key": "alice"})
    else:
        with running_workerless_api(tmp_path, PANORAMAS_WEBHOOK_SECRET=SECRET) as anonymous:
            answer = anonymous.http.get("/webhooks/secret")
    assert answer.json()["secret"].startswith("whsec_")
    assert answer.json()["secret"] != SECRET
    assert answer.headers["cache-control"] == "no-store"


def test_a_replay_is_answered_while_the_store_is_full_and_a_new_job_is_not(tmp_path: Path) -> None:
    with running_workerless_api(tmp_path) as full:
        key = {"idempotency-key": "one"}
        first = full.http.post("/panoramas", json=PANORAMA, headers=key)
        lines = {**key, "content-type": "application/x-ndjson"}
        batch = full.http.post("/batches", content=json_lines([PANORAMA]), headers=lines)
        stack = full.stack
        for process in stack.processes:
            process.kill()
        stack.environment["PANORAMAS_MIN_FREE_MB"] = str(psutil.disk_usage(str(tmp_path)).total // 2**20 + 1)
        stack.start_api()
        with httpx.Client(base_url=stack.url) as http:
            again = http.post("/panoramas", json=PANORAMA, headers=key)
            assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
            assert (
                http.post("/batches", content=json_lines([PANORAMA]), headers=lines).json()["id"] == batch.json()["id"]
            )
            assert_problem(http.post("/panoramas", json={**PANORAMA, "seed": 8}, headers=key), 422)
            before = jobs_made(stack)
            assert_problem(http.post("/panoramas", json=PANORAMA), 507)
            assert_problem(http.post("/panoramas", json=PANORAMA, headers={"idempotency-key": "two"}), 507)
            assert_problem(http.post("/batches", json={"items": [PANORAMA]}), 507)
            assert jobs_made(stack) == before


def test_a_key_whose_job_was_deleted_says_so(workerless: WorkerlessApi) -> None:
    key = {"idempotency-key": "deleted"}
    job = workerless.http.post("/panoramas", json=PANORAMA, headers=key).json()
    workerless.http.post(f"/jobs/{job['id']}/cancel")
    assert workerless.http.delete(f"/jobs/{job['id']}").status_code == 204
    detail = assert_problem(workerless.http.post("/panoramas", json=PANORAMA, headers=key), 410)["detail"]
    assert "another key" in detail


def test_readiness_is_looked_up_once_for_all_who_ask(workerless: WorkerlessApi) -> None:
    def commands() -> int:
        return int(workerless.redis.info("stats")["total_commands_processed"])

    workerless.http.get("/readyz")
    before = commands()
    for _ in range(50):
        assert workerless.http.get("/readyz").status_code == 200
    assert commands() - before < 200
    assert json.loads(workerless.http.get("/readyz").text)["status"] == "ok"
    assert workerless.redis.exists(keys.SEQUENCE)
