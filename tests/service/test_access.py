"""API keys: access, rate limits, and that no owner sees what belongs to another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import httpx
import pytest
import yaml

from jobs.setting_values import parse_api_keys
from jobs.settings import Settings
from service.access import is_open
from testkit.http import assert_problem
from testkit.processes import ROOT
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api

KEYS = {"anna": "key-of-anna", "bert": "key-of-bert", "carl": "key-of-carl"}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


def operations() -> list[tuple[str, str]]:
    """Every operation of `openapi.yaml`."""
    paths = yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"]
    return [(method.upper(), path) for path, known in paths.items() for method in known]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    """An API with three owners. Anna has a second key, as during a key rotation."""
    all_keys = [*((name, key) for name, key in KEYS.items()), ("anna", "new-key-of-anna")]
    keys = ",".join(f"{name}:{digest(key)}" for name, key in all_keys)
    with running_workerless_api(
        tmp_path_factory.mktemp("guarded"),
        PANORAMAS_API_KEYS=keys,
        PANORAMAS_RATE_LIMIT="500",
        PANORAMAS_MAX_QUEUED_PER_KEY="3",
        PANORAMAS_MAX_PIXEL_STEPS="1000000",
    ) as workerless:
        workerless.http.headers.update(bearer("anna"))
        yield workerless


@pytest.fixture(scope="module")
def annas(guarded: WorkerlessApi) -> dict[str, str]:
    """Ids of a job and a batch of Anna's, by the names of the path parameters."""
    batch = guarded.http.post("/batches", json={"items": [PANORAMA]}).json()
    guarded.http.post(batch["links"]["cancel"])
    return {"job_id": guarded.done()["id"], "batch_id": batch["id"]}


@pytest.mark.parametrize(("method", "path"), operations())
def test_only_open_operations_answer_without_a_key(
    guarded: WorkerlessApi, annas: dict[str, str], method: str, path: str
) -> None:
    url = guarded.stack.url + path.format(**annas)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": digest(KEYS["anna"])}, {"x-api-key": "\xff"}):
        answer = httpx.request(method, url, headers={k: v.encode("latin-1") for k, v in headers.items()})
        if is_open(path):
            assert answer.is_success
        else:
            assert_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), [item for item in operations() if "{" in item[1]])
def test_what_belongs_to_another_owner_is_not_found_on_any_route(
    guarded: WorkerlessApi, annas: dict[str, str], method: str, path: str
) -> None:
    annas_path = re.sub(r"\{(\w+)\}", lambda found: annas[found[1]], path)
    unused_path = re.sub(r"\{\w+\}", "0" * 32, path)
    answers = [guarded.http.request(method, url, headers=bearer("bert")) for url in (annas_path, unused_path)]
    for answer in answers:
        assert_problem(answer, 404)
    existing, unused = (re.sub("[0-9a-f]{32}", "", answer.text) for answer in answers)
    assert existing == unused, "the answer does not reveal that it exists"
    assert guarded.get(annas["job_id"])["state"] == "succeeded"


def test_lists_and_idempotency_keys_are_separate_for_each_owner(guarded: WorkerlessApi, annas: dict[str, str]) -> None:
    assert [job["id"] for job in guarded.http.get("/jobs").json()["items"]].count(annas["job_id"]) == 1
    assert guarded.http.get("/jobs", headers=bearer("carl")).json()["items"] == []
    assert_problem(guarded.http.get(f"/jobs?batch={annas['batch_id']}", headers=bearer("carl")), 404)
    ids = {
        guarded.http.post("/panoramas", json=PANORAMA, headers={**bearer(name), "idempotency-key": "same"}).json()["id"]
        for name in ("anna", "bert")
    }
    assert len(ids) == 2


def test_every_key_of_an_owner_gives_access_to_the_same_jobs(guarded: WorkerlessApi, annas: dict[str, str]) -> None:
    path = f"{guarded.stack.url}/jobs/{annas['job_id']}"
    for headers in (
        {"authorization": "bearer  new-key-of-anna"},
        {"x-api-key": "new-key-of-anna"},
        {"x-api-key": KEYS["anna"]},
    ):
        assert httpx.get(path, headers=headers).status_code == 200


def test_the_number_of_queued_jobs_is_limited_for_each_key(guarded: WorkerlessApi) -> None:
    headers = bearer("carl")
    ids = [guarded.http.post("/panoramas", json=PANORAMA, headers=headers).json()["id"] for _ in range(3)]
    refused = guarded.http.post("/panoramas", json=PANORAMA, headers=headers)
    assert assert_problem(refused, 429)["type"].endswith("queue-full-for-key")
    assert int(refused.headers["retry-after"]) >= 1
    guarded.http.post(f"/jobs/{ids[0]}/cancel", headers=headers)
    assert guarded.http.post("/panoramas", json=PANORAMA, headers=headers).status_code == 202


def test_the_work_that_one_request_may_ask_for_is_limited(guarded: WorkerlessApi) -> None:
    answer = guarded.http.post("/panoramas", json={**PANORAMA, "width": 1024, "num_inference_steps": 50})
    assert "width x height" in assert_problem(answer, 422)["errors"][0]["detail"]


def test_the_rate_limit_is_enforced_and_reported_in_headers(tmp_path_factory: pytest.TempPathFactory) -> None:
    keys = ",".join(f"{name}:{digest(key)}" for name, key in KEYS.items())
    folder = tmp_path_factory.mktemp("limited")
    with running_workerless_api(folder, PANORAMAS_API_KEYS=keys, PANORAMAS_RATE_LIMIT="3") as workerless:
        answers = [workerless.http.get("/models", headers=bearer("anna")) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"requests";q=3;w=60'
        assert [re.match(r'"requests";r=(\d);t=(\d+)', a.headers["ratelimit"])[1] for a in answers] == list("2100")  # type: ignore[index]
        assert assert_problem(answers[3], 429)["type"].endswith("rate-limited")
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert workerless.http.get("/models", headers=bearer("bert")).status_code == 200, "other owners are not limited"
        assert workerless.http.get("/livez").status_code == 200
        workerless.stack.redis.kill()
        assert workerless.http.get("/models", headers=bearer("anna")).status_code == 200, (
            "without Redis there is no limit"
        )


@pytest.mark.parametrize(
    "text", ["anna", "anna:abc", f"an:na:{'0' * 64}", f":{'0' * 64}", f"a b:{'0' * 64}", f"anna:{'g' * 64}"]
)
def test_malformed_keys_are_refused_without_repeating_them_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="name:sha256") as caught:
        parse_api_keys(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"host": "127.0.0.1"}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "example.org"}, True),
        ({"host": "0.0.0.0", "allow_anonymous": True}, False),
        ({"host": "0.0.0.0", "api_keys": f"anna:{'0' * 64}"}, False),
    ],
)
def test_a_service_on_a_network_needs_keys_or_explicit_permission(settings: dict[str, object], refused: bool) -> None:
    if refused:
        with pytest.raises(ValueError, match="PANORAMAS_ALLOW_ANONYMOUS"):
            Settings(**settings).check_exposure()  # type: ignore[arg-type]
    else:
        Settings(**settings).check_exposure()  # type: ignore[arg-type]
