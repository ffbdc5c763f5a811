"""`python -m benchmarks.api`: how many requests one API process answers, compared with FastAPI and one Redis call.

The API, its Redis-protocol server with an append-only file, the load generator and the clients of the event streams
share this machine. The load generator first sends requests as fast as they are answered, without and with 500 streams.
With the streams it then sends half of the target rate (400 POST/s, 750 GET/s); there latency is counted from the moment
the request was due. No worker runs: a thread makes the steps of one job, which ten of the streams follow; the others
follow queued jobs.
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

from benchmarks import results
from benchmarks.load import Load, Measured
from testkit.processes import ROOT, RedisServer, eventually, free_port, running_stack
from testkit.workerless import PANORAMA, WorkerlessApi, model_on_paper

POST_TARGET, GET_TARGET = 800, 1500
ROUTES = {"POST /panoramas": (202, POST_TARGET / 2), "GET /jobs/{id}": (200, GET_TARGET / 2)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the table shows medians")
    parser.add_argument("--streams", type=int, default=500)
    results.add_option(parser)
    options = parser.parse_args()
    setting = {"seconds": options.seconds, "streams": options.streams}
    total = options.rounds * len(ROUTES) * 4
    kept = results.Results(options.results, total=total, benchmark="api", **setting)
    with tempfile.TemporaryDirectory(prefix="api-") as temporary:
        folder = Path(temporary)
        redis = RedisServer(folder / "redis", appendfsync="everysec")
        many = {"PANORAMAS_MAX_QUEUED": "10000000", "PANORAMAS_LOG_LEVEL": "warning"}
        with (
            running_stack(folder, model_on_paper(folder), workers=0, redis=redis, **many) as stack,
            WorkerlessApi(stack) as workerless,
            minimal_service(redis.url) as minimal_port,
        ):
            port = int(stack.url.rpartition(":")[2])
            ids = [workerless.submit()["id"] for _ in range(options.streams + 1)]
            measured = Rounds(kept, port, minimal_port, ids, options.seconds)
            for number in range(1, options.rounds + 1):
                measured.full_speed(number, "ours", "minimal")
            with event_streams(workerless, ids, options.streams):
                for number in range(1, options.rounds + 1):
                    measured.full_speed(number, "streams")
                    measured.steady(number)
            print(measured.table(options.streams))


class Rounds:
    """The measurements by route and kind. Kinds: full speed alone (`ours`), of the minimal service (`minimal`), with
    streams (`streams`), and at a steady rate with streams (`steady`)."""

    def __init__(self, kept: results.Results, port: int, minimal_port: int, ids: list[str], seconds: float) -> None:
        self._results = kept
        self._ports = {"ours": port, "streams": port, "minimal": minimal_port}
        self._seconds = seconds
        body = json.dumps(PANORAMA)
        head = "POST /panoramas HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        self._requests = {
            "POST /panoramas": [f"{head}Content-Length: {len(body)}\r\n\r\n{body}"],
            "GET /jobs/{id}": [f"GET /jobs/{job_id} HTTP/1.1\r\nHost: x\r\n\r\n" for job_id in ids],
        }
        self._measured: dict[tuple[str, str], list[Measured]] = {}

    def full_speed(self, number: int, *kinds: str) -> None:
        """Round `number` of some kinds, with requests as fast as they are answered."""
        for route in ROUTES:
            for kind in kinds:
                self._measure(number, route, kind, 0.0)

    def steady(self, number: int) -> None:
        """Round `number` at half of the target rate."""
        for route, (_, rate) in ROUTES.items():
            self._measure(number, route, "steady", rate)

    def _measure(self, number: int, route: str, kind: str, rate: float) -> None:
        values = self._results.measure(f"{route}, {kind}, round {number}", lambda: self._send(route, kind, rate))
        self._measured.setdefault((route, kind), []).append(Measured(**values))

    def _send(self, route: str, kind: str, rate: float) -> results.Values:
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
        values: results.Values = json.loads(done.stdout)
        return values

    def _median(self, route: str, kind: str, field: str) -> float:
        return statistics.median(getattr(found, field) for found in self._measured[route, kind])

    def table(self, streams: int) -> str:
        """Markdown."""
        load = os.getloadavg()[0]
        failures = sum(found.failures for measured in self._measured.values() for found in measured)
        day = datetime.now(UTC).date()
        lines = [
            f"{day}, {os.cpu_count()} cores, load average {load:.1f} at the end, {failures} failures",
            "",
            f"| | a second | minimal API | ratio | with {streams} streams | p50, p99, worst in ms at a steady rate |",
            "|---|---|---|---|---|---|",
        ]
        for route, (_, rate) in ROUTES.items():
            kinds = ("ours", "minimal", "streams")
            ours, minimal, with_streams = (self._median(route, kind, "a_second") for kind in kinds)
            times = ", ".join(f"{self._median(route, 'steady', part):.1f}" for part in ("p50_ms", "p99_ms", "worst_ms"))
            speeds = f"{ours:,.0f} | {minimal:,.0f} | {ours / minimal:.2f} | {with_streams:,.0f}"
            lines.append(f"| `{route}` | {speeds} | {times} ({rate:.0f}/s) |")
        return "\n".join(lines)


@contextmanager
def minimal_service(redis_url: str) -> Iterator[int]:
    """The port of a running `benchmarks.minimal_api`."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.minimal_api", redis_url, str(port)], cwd=ROOT)

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/jobs/x").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(answers, 30, "the minimal service answers")
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def event_streams(workerless: WorkerlessApi, ids: list[str], count: int) -> Iterator[None]:
    """`count` clients that follow one job each, and a job that makes five steps per second."""
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
        raise RuntimeError("some streams ended early")


if __name__ == "__main__":
    main()
