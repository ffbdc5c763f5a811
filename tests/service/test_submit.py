"""Submitting twice, waiting for the answer, listing, deleting, conditional and partial fetches."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import httpx
import pytest

from jobs import keys
from service.conditional import BadRange, byte_range, is_fresh
from service.preferences import wait_seconds
from testkit.http import assert_problem, jobs_made
from testkit.processes import eventually
from testkit.workerless import PANORAMA, WorkerlessApi


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


def test_a_repeated_submit_answers_as_the_first_and_says_so(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    first = workerless.http.post("/panoramas", json={**PANORAMA, "seed": None}, headers=headers)
    again = workerless.http.post("/panoramas", json=dict(reversed({**PANORAMA, "seed": None}.items())), headers=headers)
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["input"] == first.json()["input"], "the seed was drawn once"
    assert 86_000 < workerless.redis.ttl(keys.idempotency("", headers["idempotency-key"])) <= 86_400


def test_another_request_under_the_same_key_is_refused(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    workerless.http.post("/panoramas", json=PANORAMA, headers=headers)
    before = jobs_made(workerless.stack)
    problem = assert_problem(workerless.http.post("/panoramas", json={**PANORAMA, "seed": 8}, headers=headers), 422)
    assert problem["type"].endswith("idempotency-key-reused")
    assert jobs_made(workerless.stack) == before


def test_a_refused_request_does_not_use_its_key_up(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    assert_problem(workerless.http.post("/panoramas", json={**PANORAMA, "width": 3}, headers=headers), 422)
    answer = workerless.http.post("/panoramas", json=PANORAMA, headers=headers)
    assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (202, None)


@pytest.mark.parametrize("key", ["", "a" * 256, "\xe9", "a\tb"])
def test_a_key_that_is_none_is_refused(workerless: WorkerlessApi, key: str) -> None:
    problem = assert_problem(
        workerless.http.post("/panoramas", json=PANORAMA, headers={b"idempotency-key": key.encode()}), 422
    )
    assert problem["errors"][0]["pointer"].lower() == "#/idempotency-key"


def test_a_submit_may_wait_for_its_picture(workerless: WorkerlessApi) -> None:
    with ThreadPoolExecutor(1) as pool:
        body, headers = {**PANORAMA, "prompt": "awaited"}, {"prefer": "respond-async, wait=30"}
        asked = pool.submit(workerless.http.post, "/panoramas", json=body, headers=headers)

        def arrived() -> dict[str, Any] | None:
            newest = workerless.http.get("/jobs?state=queued&limit=1").json()["items"]
            return newest[0] if newest and newest[0]["input"]["prompt"] == "awaited" else None

        job = eventually(arrived, 10, "the job arrives")
        workerless.succeed(workerless.claim(job["id"]))
        answer = asked.result()
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=30")
    assert (answer.json()["id"], answer.json()["state"]) == (job["id"], "succeeded")
    assert answer.headers["location"] == f"/jobs/{job['id']}"


def test_waiting_ends_after_the_time_that_was_asked_for(workerless: WorkerlessApi) -> None:
    job_id, begun = workerless.submit()["id"], monotonic()
    answer = workerless.http.get(f"/jobs/{job_id}", headers={"prefer": "wait=1"})
    assert 0.9 < monotonic() - begun < 5
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
def test_only_a_preference_that_is_understood_is_applied(prefer: str, seconds: int | None) -> None:
    assert wait_seconds(prefer, 60) == seconds


def test_jobs_are_listed_newest_first_page_by_page(workerless: WorkerlessApi) -> None:
    ids = [workerless.submit()["id"] for _ in range(5)]
    seen, url = [], "/jobs?limit=2"
    while len(seen) < 5:
        page = workerless.http.get(url)
        seen += [job["id"] for job in page.json()["items"]]
        assert len(page.json()["items"]) == 2
        url = page.links["next"]["url"]
        workerless.submit()  # a new one does not shift the later pages
    assert seen[:5] == ids[::-1]


def test_jobs_are_listed_by_state_and_an_item_is_the_job(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    page = workerless.http.get("/jobs", params={"state": "succeeded", "limit": 1})
    assert page.json()["items"] == [job]
    assert "state=succeeded" in page.links["next"]["url"]
    assert all(item["state"] == "canceled" for item in workerless.http.get("/jobs?state=canceled").json()["items"])


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("cursor=xyz", "#/cursor"), ("limit=0", "#/limit"), ("limit=101", "#/limit"), ("state=lost", "#/state")],
)
def test_a_bad_query_is_named(workerless: WorkerlessApi, query: str, pointer: str) -> None:
    assert assert_problem(workerless.http.get(f"/jobs?{query}"), 422)["errors"][0]["pointer"] == pointer


def test_a_deleted_job_is_gone_with_its_image(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    path = f"/jobs/{job['id']}"
    assert workerless.http.delete(path).status_code == 204
    for method, gone in (("GET", path), ("GET", f"{path}/image"), ("DELETE", path), ("POST", f"{path}/cancel")):
        assert_problem(workerless.http.request(method, gone), 410)
    assert not (workerless.stack.folder / "data" / "images" / job["id"]).exists()
    assert job["id"] not in [item["id"] for item in workerless.http.get("/jobs?limit=100").json()["items"]]


def test_a_job_that_has_not_ended_is_not_deleted(workerless: WorkerlessApi) -> None:
    job_id = workerless.submit()["id"]
    assert_problem(workerless.http.delete(f"/jobs/{job_id}"), 409)
    workerless.http.post(f"/jobs/{job_id}/cancel")
    assert workerless.http.delete(f"/jobs/{job_id}").status_code == 204


def test_an_unchanged_job_is_not_sent_again(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    first = workerless.http.get(f"/jobs/{job['id']}")
    assert first.headers["etag"].startswith('W/"')
    again = workerless.http.get(f"/jobs/{job['id']}", headers={"if-none-match": f'"x", {first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert workerless.http.get(f"/jobs/{job['id']}", headers={"if-none-match": '"x"'}).status_code == 200


def test_a_part_of_an_image_is_fetched_by_its_range(workerless: WorkerlessApi) -> None:
    url = workerless.done()["result"]["url"]
    whole = workerless.http.get(url)
    size, etag = len(whole.content), whole.headers["etag"]
    part = workerless.http.get(url, headers={"range": "bytes=10-19", "if-range": etag})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}"
    other = workerless.http.get(url, headers={"range": "bytes=10-19", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)
    outside = workerless.http.get(url, headers={"range": f"bytes={size}-"})
    assert_problem(outside, 416)
    assert outside.headers["content-range"] == f"bytes */{size}"
    assert workerless.http.head(url, headers={"range": "bytes=0-1"}).status_code == 200


RANGES: list[tuple[str | None, Any]] = [
    (None, None),
    ("bytes=0-0", (0, 0)),
    ("bytes=5-", (5, 9)),
    ("bytes=-3", (7, 9)),
    ("bytes=-99", (0, 9)),
    ("bytes=5-99", (5, 9)),
    ("bytes=5-4", None),
    ("bytes=0-1,3-4", None),
    ("lines=0-1", None),
    ("bytes=-", None),
    ("bytes=x-1", None),
    ("bytes=10-", BadRange),
    ("bytes=10-20", BadRange),
    ("bytes=-0", BadRange),
]


@pytest.mark.parametrize(("text", "expected"), RANGES)
def test_a_range_is_read_as_rfc_9110_says(text: str | None, expected: Any) -> None:
    if expected is BadRange:
        with pytest.raises(BadRange):
            byte_range(text, None, '"a"', 10)
    else:
        assert byte_range(text, None, '"a"', 10) == expected


@pytest.mark.parametrize(
    ("header", "fresh"),
    [('"a"', True), ('W/"a"', True), ('"b", W/"a"', True), ("*", True), ('"aa"', False), ("a", False), ("", False)],
)
def test_tags_are_compared_whole(header: str, fresh: bool) -> None:
    assert is_fresh(header, '"a"') is fresh
