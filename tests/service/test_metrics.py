"""`/metrics` is correct and the same on every API process; the dashboard shows only metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs import keys
from testkit.http import finished
from testkit.processes import ROOT, Stack
from testkit.workerless import WorkerlessApi, running_workerless_api
from worker.messages import DeviceMemory, Loaded
from worker.metrics import WorkerMetrics


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    with running_workerless_api(tmp_path_factory.mktemp("metrics")) as workerless:
        yield workerless


def scrape(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = httpx.get(f"{url}/metrics")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(url: str, name: str, **labels: str) -> float | None:
    return scrape(url).get((name, frozenset(labels.items())))


def test_every_api_process_reports_the_same_queue_and_jobs(own: WorkerlessApi) -> None:
    done, waiting = own.done(), [own.submit() for _ in range(3)]
    batch = own.http.post("/batches", json={"items": [{"prompt": "a", "width": 128, "height": 128}] * 2}).json()
    own.claim(waiting[0]["id"])
    urls = [own.stack.url]
    own.stack.start_api()
    urls.append(own.stack.url)
    for url in urls:
        assert value(url, "panoramas_queue_depth", priority="interactive") == 2
        assert value(url, "panoramas_queue_depth", priority="batch") == 2
        assert value(url, "panoramas_jobs", state="queued") == 4
        assert value(url, "panoramas_jobs", state="running") == 1
        assert value(url, "panoramas_jobs", state="succeeded") == 1
        assert value(url, "panoramas_jobs_submitted_total") == 6
        assert value(url, "panoramas_jobs_ended_total", state="succeeded") == 1
        assert value(url, "panoramas_redis_up") == 1
    own.redis.hset(keys.job(waiting[1]["id"]), "created_at", own.claims.now() - 90_000)
    assert 90 <= (value(urls[0], "panoramas_queue_oldest_seconds") or 0) < 100
    assert (done["state"], batch["accepted"]) == ("succeeded", 2)


def test_measurements_of_several_workers_are_added_up(own: WorkerlessApi) -> None:
    workers = [WorkerMetrics(own.redis, name) for name in ("one", "two")]
    gpu = DeviceMemory("H100", allocated=1, reserved=2, peak=3, total=4)
    own.redis.zadd(keys.WORKERS, {"one": own.claims.now()})
    for worker in workers:
        worker.on_report(Loaded("tiny", 3.0))
        worker.picture_finished({"load": 0.0, "denoise": 10.0, "decode": 0.3}, 50, gpu)
    url = own.stack.url
    assert value(url, "panoramas_step_seconds_count") == 2
    assert value(url, "panoramas_step_seconds_sum") == pytest.approx(0.4)
    assert value(url, "panoramas_step_seconds_bucket", le="0.1") == 0
    assert value(url, "panoramas_step_seconds_bucket", le="0.25") == 2
    assert value(url, "panoramas_phase_seconds_bucket", phase="decode", le="+Inf") == 2
    assert value(url, "panoramas_model_load_seconds_count", model="tiny") == 2
    assert value(url, "panoramas_workers") == 1
    assert value(url, "panoramas_gpu_memory_bytes", worker="one", device="H100", kind="peak") == 3
    assert value(url, "panoramas_gpu_memory_bytes", worker="two", device="H100", kind="peak") is None, (
        "worker two is not alive"
    )
    workers[0].picture_finished({}, 0, gpu)
    assert own.redis.hkeys(keys.MEMORY) == ["one"]


def test_requests_are_counted_by_route_never_by_path(own: WorkerlessApi) -> None:
    own.get(own.submit()["id"])
    own.http.get("/nowhere")
    url = own.stack.url
    assert value(url, "panoramas_http_request_seconds_count", method="GET", route="/jobs/{job_id}", status="200") == 1
    assert value(url, "panoramas_http_request_seconds_count", method="other", route="other", status="404") == 1
    assert not re.search("[0-9a-f]{32}", httpx.get(f"{url}/metrics").text)


def test_a_scrape_reports_that_redis_is_down(own: WorkerlessApi) -> None:
    own.stack.redis.kill()
    assert value(own.stack.url, "panoramas_redis_up") == 0
    assert value(own.stack.url, "panoramas_workers") is None


def test_openmetrics_is_sent_when_asked_for(own: WorkerlessApi) -> None:
    answer = own.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_the_dashboard_shows_only_metrics_of_a_real_service(stack: Stack, http: httpx.Client) -> None:
    body = {"prompt": "mountains", "width": 128, "height": 128, "num_inference_steps": 1}
    job = http.post("/panoramas", json=body).json()
    assert finished(http, job["id"])["state"] == "succeeded"
    reported = {name for name, _ in scrape(stack.url)} | {"panoramas_gpu_memory_bytes"}  # this machine may have no GPU
    dashboard = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"panoramas_\w+", expression)}
    assert shown <= reported
    assert len(shown) >= 12
