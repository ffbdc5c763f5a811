"""`python -m benchmarks.api`: how many requests one API process answers, beside a FastAPI route with one Redis call.

The API, its Redis-protocol server with its append-only file, the requests' source and the event streams' clients share
this machine. First as fast as answers come, without and with 500 streams; then half of what is promised (400 POST/s,
750 GET/s) at a steady rate with them, where an answer's time counts from the moment its request was due. No worker
runs: a thread in its place makes steps of one job, which ten of the streams follow; the others follow jobs that wait.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import httpx

from benchmarks.load import Load, Measured
from testkit.processes import ROOT, RedisServer, eventually, free_port, running_stack
from testkit.workerless import PANORAMA, WorkerlessApi, model_on_paper

POST_TARGET, GET_TARGET = 800, 1500
ROUTES = {"POST /panoramas": (202, POST_TARGET / 2), "GET /jobs/{id}": (200, GET_TARGET / 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the table shows medians")
    parser.add_argument("--streams", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="api-") as temporary:
        folder = Path(temporary)
        redis = RedisServer(folder / "redis", appendfsync="everysec")
        many = {"PANORAMAS_MAX_QUEUED": "10000000", "PANORAMAS_LOG_LEVEL": "warning"}
        with (
            running_stack(folder, model_on_paper(folder), workers=0, redis=redis, **many) as stack,
            WorkerlessApi(stack) as workerless,
            bare_service(redis.url) as bare_port,
        ):
            port = int(stack.url.rpartition(":")[2])
            ids = [workerless.submit()["id"] for _ in range(options.streams + 1)]
            measured = Rounds(port, bare_port, ids, options.seconds)
            for _ in range(options.rounds):
                measured.full_speed("ours", "bare")
            with event_streams(workerless, ids, options.streams):
                for _ in range(options.rounds):
                    measured.full_speed("streams")
                    measured.steady()
            print(measured.table(options.streams))


class Rounds:
    """What was measured, by route and kind."""

    def __init__(self, port: int, bare_port: int, ids: list[str], seconds: float) -> None:
        self._ports = {"ours": port, "streams": port, "bare": bare_port}
        self._seconds = seconds
        body = json.dumps(PANORAMA)
        head = "POST /panoramas HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        self._requests = {
            "POST /panoramas": [f"{head}Content-Length: {len(body)}\r\n\r\n{body}"],
            "GET /jobs/{id}": [f"GET /jobs/{job_id} HTTP/1.1\r\nHost: x\r\n\r\n" for job_id in ids],
        }
        self._seen: dict[tuple[str, str], list[Measured]] = {}

    def full_speed(self, *kinds: str) -> None:
        for route in ROUTES:
            for kind in kinds:
                self._measure(route, kind, 0.0)

    def steady(self) -> None:
        for route, (_, rate) in ROUTES.items():
            self._measure(route, "steady", rate)

    def _measure(self, route: str, kind: str, rate: float) -> None:
        port = self._ports.get(kind, self._ports["ours"])
        load = Load(port, self._requests[route], ROUTES[route][0], self._seconds, rate=rate)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(asdict(load)),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        found = Measured(**json.loads(done.stdout))
        print(f"{route}, {kind}: {found}", file=sys.stderr)
        self._seen.setdefault((route, kind), []).append(found)

    def _median(self, route: str, kind: str, field: str) -> float:
        return statistics.median(getattr(found, field) for found in self._seen[route, kind])

    def table(self, streams: int) -> str:
        load = os.getloadavg()[0]
        failures = sum(found.failures for seen in self._seen.values() for found in seen)
        day = datetime.now(UTC).date()
        lines = [
            f"{day}, {os.cpu_count()} cores, load average {load:.1f} at the end, {failures} failures",
            "",
            f"| | a second | bare FastAPI | ratio | with {streams} streams | p50, p99, worst in ms at a steady rate |",
            "|---|---|---|---|---|---|",
        ]
        for route, (_, rate) in ROUTES.items():
            ours, bare, crowded = (self._median(route, kind, "a_second") for kind in ("ours", "bare", "streams"))
            times = ", ".join(f"{self._median(route, 'steady', part):.1f}" for part in ("p50_ms", "p99_ms", "worst_ms"))
            speeds = f"{ours:,.0f} | {bare:,.0f} | {ours / bare:.2f} | {crowded:,.0f}"
            lines.append(f"| `{route}` | {speeds} | {times} ({rate:.0f}/s) |")
        return "\n".join(lines)


@contextmanager
def bare_service(redis_url: str) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", redis_url, str(port)], cwd=ROOT)

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/jobs/x").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(answers, 30, "the bare service answers")
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def event_streams(workerless: WorkerlessApi, ids: list[str], count: int) -> Iterator[None]:
    """`count` clients that follow a job each, and a job that makes five steps a second."""
    running = workerless.claim(ids[0])
    followed = [ids[0]] * 10 + ids[1 : count - 9]
    ended = threading.Event()

    def work() -> None:
        for step in range(10_000_000):
            if ended.wait(0.2):
                return
            workerless.step(running, step)

    worker = threading.Thread(target=work)
    port = workerless.stack.url.rpartition(":")[2]
    command = [sys.executable, "-m", "benchmarks.streams", port, *followed]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as clients:
        assert clients.stdout
        if clients.stdout.readline() != b"open\n":
            raise RuntimeError(f"not all of {count} streams were opened")
        worker.start()
        try:
            time.sleep(1)
            yield
        finally:
            ended.set()
            worker.join()
    if clients.returncode:
        raise RuntimeError("streams ended before their time")


if __name__ == "__main__":
    main()
