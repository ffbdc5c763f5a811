"""The API as a process: small, quick to start, and independent of Redis's outages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from testkit.processes import ROOT, RedisServer, Stack, eventually
from testkit.workerless import WorkerlessApi

VALID = {"prompt": "mountains", "num_inference_steps": 1}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Stack]:
    """A folder with a running Redis. The test starts the API; there is no worker."""
    stack = Stack(RedisServer(tmp_path / "redis"), tmp_path, {"PANORAMAS_DATA_DIR": str(tmp_path / "data")})
    stack.redis.start()
    yield stack
    stack.stop()
    stack.redis.kill()


def test_the_api_starts_quickly_and_stays_small(alone: Stack) -> None:
    alone.start_api()  # the first start fills the page cache
    start = time.monotonic()
    api = alone.start_api()
    seconds = time.monotonic() - start
    with httpx.Client(base_url=alone.url) as http:
        assert http.post("/panoramas", json=VALID).status_code == 202
        assert http.get("/openapi.json").is_success
    # CPU time of the process, because wall time depends on what else this machine does.
    assert sum(psutil.Process(api.pid).cpu_times()[:2]) < 3.0, f"started in {seconds:.1f} s"
    assert psutil.Process(api.pid).memory_info().rss < 150 * 2**20


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "service.app, service.openapi, jobs.claims, jobs.store",
            {"torch", "diffusers", "transformers", "numpy", "PIL"},
        ),
        ("worker.main", {"torch", "diffusers", "transformers", "PIL"}),  # encoding pictures needs numpy
    ],
    ids=["the API", "the worker without its model process"],
)
def test_heavy_modules_are_not_imported_by_light_processes(modules: str, heavy: set[str]) -> None:
    code = (
        f"import sys, {modules}\n"
        f"heavy = {heavy!r} & set(sys.modules)\n"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_redis_the_api_says_so_and_needs_no_restart_when_it_is_back(alone: Stack) -> None:
    alone.start_api()
    with httpx.Client(base_url=alone.url, timeout=30) as http:
        job_id = http.post("/panoramas", json=VALID).json()["id"]
        alone.redis.kill()
        for method, path in (("POST", "/panoramas"), ("GET", f"/jobs/{job_id}"), ("POST", f"/jobs/{job_id}/cancel")):
            response = http.request(method, path, json=VALID if path == "/panoramas" else None)
            assert response.status_code == 503, (method, path, response.text)
            assert response.headers["content-type"] == "application/problem+json"
            assert int(response.headers["retry-after"]) >= 1
        assert http.get("/livez").status_code == 200
        assert http.get("/models").status_code == 200
        assert http.get("/readyz").status_code == 503
        assert http.post("/panoramas", json={"prompt": ""}).status_code == 422, "invalid input is refused without Redis"
        alone.redis.start()
        eventually(lambda: http.get("/readyz").is_success, 30, "the API is ready again")
        assert http.get(f"/jobs/{job_id}").json()["state"] == "queued", "the accepted job is still there"
        assert http.post("/panoramas", json=VALID).status_code == 202


def test_without_its_store_the_api_is_not_ready(alone: Stack, tmp_path: Path) -> None:
    alone.start_api()
    assert httpx.get(f"{alone.url}/readyz").json() == {"status": "ok", "workers": 0}
    images = tmp_path / "data" / "images"
    for probe in images.rglob("*"):
        if probe.is_file():
            probe.unlink()
    (images / "health").rmdir()
    images.rmdir()
    images.write_bytes(b"in the way")  # a file in the folder's place, because root ignores permissions
    eventually(lambda: httpx.get(f"{alone.url}/readyz").status_code == 503, 10)  # a check counts for two seconds
    response = httpx.get(f"{alone.url}/readyz")
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")


def test_four_hundred_connections_at_once_are_all_answered(workerless: WorkerlessApi) -> None:
    job_id, port = workerless.submit()["id"], int(workerless.stack.url.rpartition(":")[2])

    async def connect_at_once() -> Counter[bytes]:
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(400)]
        for _, writer in connections:
            writer.write(f"GET /jobs/{job_id} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answers = [await reader.read() for reader, _ in connections]
        for _, writer in connections:
            writer.close()
        return Counter(answer[:12] for answer in answers)

    assert asyncio.run(connect_at_once()) == {b"HTTP/1.1 200": 400}
