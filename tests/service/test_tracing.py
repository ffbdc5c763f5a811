"""One trace covers a client's request, the queue and the worker's phases; logs name their job and trace."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from jobs import keys, tracing
from testkit.http import finished
from testkit.processes import Stack, eventually, running_stack
from testkit.workerless import WorkerlessApi, running_workerless_api

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
PANORAMA = {"prompt": "mountains", "width": 128, "height": 128, "num_inference_steps": 3}


class Collector:
    """An OpenTelemetry collector: receives spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        {
                            "service": attributes["service.name"],
                            "name": span.name,
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "from": span.start_time_unix_nano,
                            "to": span.end_time_unix_nano,
                            "events": [event.name for event in span.events],
                            "attributes": {item.key: item.value for item in span.attributes},
                        }
                    )

    def named(self, name: str) -> dict[str, Any] | None:
        return next((span for span in self.spans if span["name"] == name), None)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, collector: Collector) -> Iterator[Stack]:
    """A whole service that exports its spans and logs JSON."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "PANORAMAS_LOG_FORMAT": "json",
    }
    with running_stack(tmp_path_factory.mktemp("traced"), f"tiny={tiny_model}", **environment) as stack:
        yield stack


@pytest.fixture(scope="module")
def traced_job(traced: Stack, collector: Collector) -> dict[str, Any]:
    with httpx.Client(base_url=traced.url) as http:
        job = http.post("/panoramas", json=PANORAMA, headers=PARENT).json()
        done = finished(http, job["id"])
    assert done["state"] == "succeeded"
    eventually(lambda: collector.named("attempt") and collector.named("finish"), 30, "the last span has arrived")
    return done


def test_one_trace_covers_the_request_and_the_phases_of_the_worker(
    traced_job: dict[str, Any], collector: Collector
) -> None:
    names = ("POST /panoramas", "attempt", "finish", "queued", "encode", "denoise", "decode", "png", "store")
    spans = [span for name in names if (span := collector.named(name))]
    assert [span["name"] for span in spans] == list(names)
    assert {span["trace"] for span in spans} == {TRACE}
    submit, attempt, finish, queued, *phases = spans
    assert (submit["parent"], submit["service"]) == (CLIENT, "panoramas-api")
    assert submit["attributes"]["panoramas.job_id"].string_value == traced_job["id"]
    assert submit["attributes"]["http.response.status_code"].int_value == 202
    assert (attempt["parent"], attempt["service"]) == (submit["id"], "panoramas-worker")
    assert attempt["attributes"]["panoramas.outcome"].string_value == "painted"
    assert attempt["events"].count("step") >= 1
    assert finish["parent"] == attempt["id"], "the attempt ends earlier, because the next job begins"
    assert finish["attributes"]["panoramas.outcome"].string_value == "succeeded"
    assert queued["parent"] == submit["id"]
    for phase in phases:
        parent = finish if phase["name"] in ("png", "store") else attempt
        assert phase["parent"] == parent["id"]
        assert parent["from"] <= phase["from"] <= phase["to"] <= parent["to"]
    starts = [phase["from"] for phase in phases]
    assert starts == sorted(starts), "the phases follow each other"


def test_probes_and_scrapes_are_not_traced(traced: Stack, traced_job: dict[str, Any], collector: Collector) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/models"):
        httpx.get(traced.url + path)
    eventually(lambda: collector.named("GET /models"), 30, "the traced request has arrived")
    assert not [span for span in collector.spans if span["name"] in ("GET /livez", "GET /readyz", "GET /metrics")]


def test_every_line_of_a_json_log_is_json_and_names_its_job(traced: Stack, traced_job: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in traced.log().splitlines() if line]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    about = [line for line in lines if line.get("job_id") == traced_job["id"]]
    assert {line["logger"] for line in about} >= {"service.routes.panoramas", "worker.attempt", "worker.finishing"}
    assert {line["trace_id"] for line in about if line["logger"] != "worker.model_process"} == {TRACE}


def test_without_a_collector_the_job_still_keeps_the_clients_trace(workerless: WorkerlessApi) -> None:
    job = workerless.http.post("/panoramas", json=PANORAMA, headers=PARENT).json()
    assert workerless.redis.hget(keys.job(job["id"]), "traceparent") == PARENT["traceparent"]
    long = f"{PARENT['traceparent']}-{'x' * 9000}"
    for bad in (
        "",
        "x",
        long,
        long.replace("00-", "01-", 1),
        f"00-{'0' * 32}-{CLIENT}-01",
        f"ff-{TRACE}-{CLIENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
    ):
        job = workerless.http.post("/panoramas", json=PANORAMA, headers={"traceparent": bad}).json()
        assert workerless.redis.hget(keys.job(job["id"]), "traceparent") is None


def test_a_collector_that_is_down_delays_nothing(tmp_path: Path) -> None:
    with running_workerless_api(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as own:
        assert own.done()["state"] == "succeeded"
        assert own.http.get("/livez").elapsed.total_seconds() < 5


def test_without_a_collector_spans_only_pass_on_the_trace() -> None:
    with tracing.span("a", parent=PARENT["traceparent"], panoramas__job_id="x"):
        assert tracing.current() == PARENT["traceparent"]
        assert tracing.trace_id() == TRACE
        tracing.annotate(a=1)
        tracing.event("b")
    assert tracing.current() == ""
