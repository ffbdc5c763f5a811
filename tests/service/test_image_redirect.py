"""Images that clients fetch from the bucket itself, by a redirect to a signed address."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from jobs.store import ImageStore
from panoramas import Client
from testkit.http import assert_problem
from testkit.s3_server import S3Server, s3_server
from testkit.workerless import WorkerlessApi, running_workerless_api

pytestmark = pytest.mark.slow  # the S3 server imports for seconds

KEY = "a key that stays with the API"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def redirecting(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[WorkerlessApi]:
    """An API with a key, which redirects."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    environment = {
        **s3.environment(),
        "PANORAMAS_STORE_REDIRECT": "true",
        "PANORAMAS_API_KEYS": f"anna:{digest}",
    }
    with running_workerless_api(tmp_path_factory.mktemp("api"), **environment) as api:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in s3.environment().items():
                patch.setenv(name, value)
            api.store = ImageStore(environment["PANORAMAS_STORE_URL"])
        api.http.headers["authorization"] = f"Bearer {KEY}"
        yield api


def test_a_png_is_fetched_from_the_bucket_and_the_key_stays_here(redirecting: WorkerlessApi, s3: S3Server) -> None:
    job = redirecting.done()
    answer = redirecting.http.get(job["result"]["url"])
    assert answer.status_code == 307
    assert answer.headers["location"].startswith(f"{s3.url}/pictures/some/prefix/{job['id']}/")
    assert (answer.headers["cache-control"], answer.content) == ("no-store", b"")
    followed = redirecting.http.get(job["result"]["url"], follow_redirects=True)
    assert "authorization" not in followed.request.headers
    assert hashlib.sha256(followed.content).hexdigest() == job["result"]["sha256"]
    assert followed.headers["content-type"] == "image/png"
    part = redirecting.http.get(job["result"]["url"], headers={"range": "bytes=2-4"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, followed.content[2:5])
    with Client(redirecting.stack.url, api_key=KEY) as client:
        assert client.image(job["id"]) == followed.content


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": KEY},
        {"sec-fetch-mode": "cors"},
        {"sec-fetch-mode": "no-cors"},
        {"if-match": '"anything"'},
    ],
    ids="-".join,
)
def test_a_request_that_would_fail_or_tell_its_key_elsewhere_is_answered_here(
    redirecting: WorkerlessApi, headers: dict[str, str]
) -> None:
    url = redirecting.done()["result"]["url"]
    key = {} if "x-api-key" in headers else {"authorization": f"Bearer {KEY}"}
    answer = httpx.get(redirecting.stack.url + url, headers={**key, **headers})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")


def test_what_needs_no_bytes_of_the_bucket_is_answered_here(redirecting: WorkerlessApi, s3: S3Server) -> None:
    job = redirecting.done()
    url, etag = job["result"]["url"], f'"{job["result"]["sha256"]}"'
    head = redirecting.http.head(url)
    assert (head.status_code, head.headers["etag"], head.content) == (200, etag, b"")
    assert int(head.headers["content-length"]) == job["result"]["bytes"]
    assert redirecting.http.get(url, headers={"if-none-match": etag}).status_code == 304
    assert_problem(redirecting.http.get(url, headers={"range": "bytes=999999-"}), 416)
    ours = redirecting.http.get(url, headers={"range": "bytes=2-4", "if-range": etag})
    assert (ours.status_code, len(ours.content)) == (206, 3), "the bucket has another ETag"
    assert redirecting.http.get(url, headers={"accept": "image/webp"}).status_code == 200
    assert redirecting.http.get(job["links"]["thumbnail"]).status_code == 200
    redirecting.store.delete_job(job["id"])
    assert redirecting.http.head(url).status_code == 410


def test_a_local_folder_is_never_redirected_to(workerless: WorkerlessApi) -> None:
    assert workerless.http.get(workerless.done()["result"]["url"]).status_code == 200
