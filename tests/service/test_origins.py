"""Which hosts the server answers for, which web pages may call it, and the URLs that it gives."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from jobs.settings import Settings
from testkit.http import assert_problem, jobs_made
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api

PAGE, PUBLIC = "https://studio.example.org", "https://paint.example.org/pano"


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    """Behind a proxy under a prefix, with a page on another site."""
    settings = {"PANORAMAS_PUBLIC_URL": f"{PUBLIC}/", "PANORAMAS_CORS_ORIGINS": f"{PAGE}, http://localhost:3000"}
    keys = {"PANORAMAS_API_KEYS": "ann:2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"}  # of "alice"
    with running_workerless_api(tmp_path_factory.mktemp("public"), **settings, **keys) as running:
        running.http.headers["X-API-Key"] = "alice"
        yield running


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.1.2.3:80", "[::1]:8000", "a.localhost"]
)
def test_without_keys_a_server_on_loopback_answers_for_this_machine(workerless: WorkerlessApi, host: str) -> None:
    assert workerless.http.get("/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["attacker.example", "127.0.0.1.attacker.example", "localhost.example:8000", "10.0.0.1", "evil@localhost"]
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/webhooks/secret"), ("POST", "/panoramas"), ("GET", "/livez")]
)
def test_another_host_is_refused_with_421(workerless: WorkerlessApi, host: str, method: str, path: str) -> None:
    before = jobs_made(workerless.stack)
    json = PANORAMA if method == "POST" else None
    assert_problem(workerless.http.request(method, path, json=json, headers={"host": host}), 421)
    assert jobs_made(workerless.stack) == before


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        ({"host": "127.0.0.9"}, []),
        ({"host": "0.0.0.0", "allow_anonymous": True}, ["*"]),
        ({"api_keys": f"ann:{'0' * 64}"}, ["*"]),
        ({"allowed_hosts": "Paint.example.org, *.lan"}, ["paint.example.org", "*.lan"]),
    ],
)
def test_hosts_are_limited_where_any_web_page_could_call(environment: dict[str, object], expected: list[str]) -> None:
    assert Settings(**environment).hosts == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["https://example.org", "a:80", "a b", "*.*", "-x"])
def test_what_is_no_host_is_refused_when_the_server_starts(text: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        Settings(allowed_hosts=text)


@pytest.mark.parametrize("text", ["example.org", "https://example.org/path", "null", "file://"])
def test_what_is_no_origin_is_refused_when_the_server_starts(text: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        Settings(cors_origins=text)


@pytest.mark.parametrize("text", ["example.org", "ftp://example.org", "https://", "https://a/b?c", "https://u:p@a"])
def test_what_is_no_public_url_is_refused_when_the_server_starts(text: str) -> None:
    with pytest.raises(ValueError, match="http or https URL"):
        Settings(public_url=text)


FOREIGN = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://localhost:9000"},
    {"origin": "https://attacker.example"},
    {"origin": "null"},
    {"origin": "http://["},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_another_sites_page_cannot_change_anything(workerless: WorkerlessApi, headers: dict[str, str]) -> None:
    job = workerless.submit()
    for method, path in (
        ("POST", f"/jobs/{job['id']}/cancel"),
        ("DELETE", f"/jobs/{job['id']}"),
        ("POST", "/panoramas"),
    ):
        answer = workerless.http.request(method, path, headers=headers, json=PANORAMA if path == "/panoramas" else None)
        assert_problem(answer, 403)
    assert workerless.get(job["id"])["state"] == "queued"
    assert workerless.http.get(f"/jobs/{job['id']}", headers=headers).status_code == 200, "following a link is harmless"


def test_the_own_page_and_other_programs_can(workerless: WorkerlessApi) -> None:
    own = str(workerless.http.base_url).rstrip("/")
    for headers in ({}, {"sec-fetch-site": "same-origin", "origin": own}, {"sec-fetch-site": "none"}, {"origin": own}):
        assert workerless.http.post("/panoramas", json=PANORAMA, headers=headers).status_code == 202


def test_a_listed_page_may_call_and_read_what_it_needs(public: WorkerlessApi) -> None:
    asked = {"origin": PAGE, "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "content-type,idempotency-key,x-api-key"
    bare = str(public.http.base_url).rstrip("/")
    preflight = httpx.options(f"{bare}/panoramas", headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    answer = public.http.post("/panoramas", json=PANORAMA, headers={"origin": PAGE, "sec-fetch-site": "cross-site"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, PAGE)
    assert {"location", "retry-after"} <= {
        name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")
    }
    refused = httpx.get(f"{bare}/jobs", headers={"origin": PAGE})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


def test_a_page_that_is_not_listed_may_not(public: WorkerlessApi) -> None:
    asked = {"origin": "https://attacker.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in public.http.options("/panoramas", headers=asked).headers
    assert_problem(public.http.post("/panoramas", json=PANORAMA, headers={"origin": "https://attacker.example"}), 403)


def test_every_url_begins_with_the_public_one(public: WorkerlessApi) -> None:
    answer = public.http.post("/panoramas", json=PANORAMA, headers={"origin": "https://paint.example.org"})
    job = answer.json()
    assert answer.headers["location"] == f"{PUBLIC}/jobs/{job['id']}"
    assert all(link.startswith(f"{PUBLIC}/jobs/{job['id']}") for link in job["links"].values())
    done = public.succeed(public.claim(job["id"]))
    assert done["result"]["url"] == f"{PUBLIC}/jobs/{job['id']}/image"
    public.submit()
    assert f"<{PUBLIC}/jobs?" in public.http.get("/jobs?limit=1").headers["link"]
    batch = public.http.post("/batches", json={"items": [PANORAMA]})
    assert batch.headers["location"] == batch.json()["links"]["self"] == f"{PUBLIC}/batches/{batch.json()['id']}"
    assert public.http.get("/openapi.json").json()["servers"][0]["url"] == PUBLIC


@pytest.mark.parametrize("prefix", ["", "/pano"])
def test_a_proxy_may_strip_the_prefix_or_leave_it(public: WorkerlessApi, prefix: str) -> None:
    job = public.submit()
    assert public.http.get(f"{prefix}/jobs/{job['id']}").json()["id"] == job["id"]
    assert public.http.get(f"{prefix}/").headers["content-type"].startswith("text/html")
    assert_problem(public.http.get(f"{prefix}/jobs", headers={"X-API-Key": "unknown"}), 401)
