"""`ETag` and `If-None-Match`: what has not changed is not sent again."""

from __future__ import annotations

import httpx
import pytest

from service.conditional import is_fresh
from testkit.http import finished, submit, submit_batch
from testkit.workerless import WorkerlessApi


def test_an_unchanged_job_is_not_sent_again(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    first = workerless.http.get(f"/jobs/{job['id']}")
    assert first.headers["etag"].startswith('W/"')
    again = workerless.http.get(f"/jobs/{job['id']}", headers={"if-none-match": f'"x", {first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert workerless.http.get(f"/jobs/{job['id']}", headers={"if-none-match": '"x"'}).status_code == 200


def test_an_unchanged_batch_is_not_sent_again(workerless: WorkerlessApi) -> None:
    url = submit_batch(workerless.http, 1)["links"]["self"]
    tag = workerless.http.get(url).headers["etag"]
    assert workerless.http.get(url, headers={"if-none-match": tag}).status_code == 304
    workerless.http.post(f"{url}/cancel")
    assert workerless.http.get(url, headers={"if-none-match": tag}).status_code == 200


def test_an_image_has_its_digest_as_etag(http: httpx.Client) -> None:
    job = finished(http, submit(http)["id"])
    first = http.get(job["result"]["url"])
    assert first.headers["etag"] == f'"{job["result"]["sha256"]}"'
    assert "immutable" in first.headers["cache-control"]
    again = http.get(job["result"]["url"], headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = http.head(job["result"]["url"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(first.content)))


@pytest.mark.parametrize(
    ("header", "fresh"),
    [('"a"', True), ('W/"a"', True), ('"b", W/"a"', True), ("*", True), ('"aa"', False), ("a", False), ("", False)],
)
def test_etags_are_compared_as_a_whole(header: str, fresh: bool) -> None:
    assert is_fresh(header, '"a"') is fresh
