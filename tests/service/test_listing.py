"""`GET /jobs`: order, pages and filters."""

from __future__ import annotations

import pytest

from testkit.http import assert_problem
from testkit.workerless import WorkerlessApi


def test_jobs_are_listed_newest_first_page_by_page(workerless: WorkerlessApi) -> None:
    ids = [workerless.submit()["id"] for _ in range(5)]
    listed, url = [], "/jobs?limit=2"
    while len(listed) < 5:
        page = workerless.http.get(url)
        listed += [job["id"] for job in page.json()["items"]]
        assert len(page.json()["items"]) == 2
        url = page.links["next"]["url"]
        workerless.submit()  # a new job does not shift the later pages
    assert listed[:5] == ids[::-1]


def test_jobs_are_filtered_by_state_and_listed_in_full(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    page = workerless.http.get("/jobs", params={"state": "succeeded", "limit": 1})
    assert page.json()["items"] == [job]
    assert "state=succeeded" in page.links["next"]["url"]
    assert all(item["state"] == "canceled" for item in workerless.http.get("/jobs?state=canceled").json()["items"])


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("cursor=xyz", "#/cursor"), ("limit=0", "#/limit"), ("limit=101", "#/limit"), ("state=lost", "#/state")],
)
def test_an_invalid_query_parameter_is_named(workerless: WorkerlessApi, query: str, pointer: str) -> None:
    assert assert_problem(workerless.http.get(f"/jobs?{query}"), 422)["errors"][0]["pointer"] == pointer
