"""`python -m benchmarks.queue_depth`: does a long queue slow the API down, and how much memory does a queued job need?

Two services run side by side, one with 100 queued jobs and one with 100,000. They get the same requests in turn, so
that other work on the machine slows both alike. No worker runs. Also measured: how fast workers that paint nothing get
jobs, for several lengths of RQ's list.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from redis.asyncio import BlockingConnectionPool, Redis

import jobs.scripts
from benchmarks import results
from jobs import keys
from jobs.board import JobBoard
from jobs.claims import JobClaims
from jobs.limits import JobLimits
from jobs.record import State
from testkit.jobs import FAULT
from testkit.processes import RedisServer, Stack, running_stack
from testkit.workerless import PANORAMA, model_on_paper

OWNERS, CONNECTIONS = 10, 16
WINDOWS, WINDOW_ROUNDS = (1, 2, 4, 16), 5
JOBS, WORKERS = 2000, 8  # for the lengths of RQ's list


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue_depth", description=__doc__)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=400)
    results.add_option(parser)
    options = parser.parse_args()
    setting = {"few": options.few, "many": options.many, "rounds": options.rounds}
    total = 1 + WINDOW_ROUNDS * len(WINDOWS)
    kept = results.Results(options.results, total=total, benchmark="queue_depth", **setting)
    print_depths(kept, options.few, options.many, options.rounds)
    print_windows(kept)


def print_depths(kept: results.Results, few: int, many: int, rounds: int) -> None:
    """Print the table of both services, and of how much memory of Redis a job takes."""
    found = kept.measure("two queues", lambda: measure_depths(few, many, rounds))
    print(f"| median of {rounds}, ms | {few:,} queued | {many:,} queued | ratio |\n|---|---|---|---|")
    for name, (at_few, at_many) in found["milliseconds"].items():
        print(f"| {name} | {at_few:.2f} | {at_many:.2f} | {at_many / at_few:.2f} |")
    print(f"| bytes of Redis a job | | {found['bytes_a_job']:,.0f} | |", flush=True)


def measure_depths(few: int, many: int, rounds: int) -> results.Values:
    """The median of each call at both services, which are asked in turn."""
    with tempfile.TemporaryDirectory(prefix="depth-") as temporary, ExitStack() as resources:
        services = []
        for depth in (few, many):
            folder = Path(temporary) / str(depth)
            folder.mkdir()
            redis = RedisServer(folder / "redis", appendfsync="everysec")
            limit = {"PANORAMAS_MAX_QUEUED": str(2 * many + rounds)}
            stack = running_stack(folder, model_on_paper(folder), workers=0, redis=redis, **limit)
            services.append(Service(resources.enter_context(stack), depth))
        for service in services:
            results.progress(f"queueing {service.depth:,} jobs")
            service.fill()
        seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in services[0].calls()}
        for number in range(1, rounds + 1):
            for service, which in zip(services, (0, 1), strict=True):
                for name, call in service.calls().items():
                    start = time.perf_counter()
                    call()
                    seconds[name][which].append(time.perf_counter() - start)
            if number % 50 == 0:
                results.progress(f"round {number} of {rounds}")
        medians = {name: [statistics.median(one) * 1000 for one in both] for name, both in seconds.items()}
        return {"milliseconds": medians, "bytes_a_job": services[1].bytes_a_job}


class Service:
    """One API and its queue."""

    def __init__(self, stack: Stack, depth: int) -> None:
        self.depth = depth
        self.bytes_a_job = 0.0
        self._redis = stack.redis.client()
        self._url = stack.redis.url
        self._http = httpx.Client(base_url=stack.url, timeout=60)
        self._claims = JobClaims(self._redis, "a benchmark", JobLimits())
        self._ids: list[str] = []

    def fill(self) -> None:
        """Submit jobs as the API does, but without HTTP: ten owners, both priorities."""
        first = self._http.post("/panoramas", json=PANORAMA).json()
        before = self._redis.info("memory")["used_memory"]
        self._ids = asyncio.run(_submit_all(self._url, self.depth, first["input"]))
        self.bytes_a_job = (self._redis.info("memory")["used_memory"] - before) / self.depth

    def calls(self) -> dict[str, Callable[[], Any]]:
        """The calls that are timed, by name."""
        middle = self._ids[len(self._ids) // 2]
        return {
            "`POST /panoramas`": lambda: self._http.post("/panoramas", json=PANORAMA).raise_for_status(),
            "`GET /jobs/{id}`, in the middle of the queue": lambda: self._http.get(f"/jobs/{middle}"),
            "`GET /jobs?limit=20`": lambda: self._http.get("/jobs?limit=20").raise_for_status(),
            "`GET /jobs?state=queued&limit=20`": lambda: self._http.get("/jobs?state=queued&limit=20"),
            "a worker's claim and putting back": self._claim_and_put_back,
            "a reconciliation": self._claims.reconcile,
        }

    def _claim_and_put_back(self) -> None:
        popped = str(self._redis.lmove(keys.RQ_LIST, keys.RQ_INTERMEDIATE, "LEFT", "RIGHT"))
        record = self._claims.claim(popped)
        assert record
        self._claims.release(popped, record.token, fault=FAULT, give_back=True)


async def _submit_all(url: str, count: int, params: dict[str, Any]) -> list[str]:
    pool = BlockingConnectionPool.from_url(url, decode_responses=True, max_connections=CONNECTIONS)
    redis = Redis.from_pool(pool)
    board = JobBoard(redis, retention_seconds=1000, max_queued=10**9)
    ids = [uuid.uuid4().hex for _ in range(count)]

    async def submit(part: range) -> None:
        for number in part:
            # A tenth of the jobs have no owner, as the jobs of requests without an API key.
            owner = str(number % OWNERS) if number % OWNERS else ""
            priority: Any = "batch" if number % 2 else "interactive"
            await board.submit(ids[number], params, {"order": str(number)}, owner=owner, priority=priority)

    await asyncio.gather(*(submit(range(first, count, CONNECTIONS)) for first in range(CONNECTIONS)))
    await redis.aclose()
    return [job_id for number, job_id in enumerate(ids) if number % OWNERS == 0]


def print_windows(kept: results.Results) -> None:
    """Print jobs per second through pop, claim and commit, for several lengths of RQ's list."""
    rates: dict[int, list[float]] = {window: [] for window in WINDOWS}
    for number in range(1, WINDOW_ROUNDS + 1):
        for window, measured in rates.items():
            name = f"{window} ids on RQ's list, round {number}"
            measured.append(kept.measure(name, lambda window=window: measure_window(window))["jobs_per_second"])  # type: ignore[misc]
    print(
        f"\n| ids on RQ's list | jobs a second, {WORKERS} workers that paint nothing, median of {WINDOW_ROUNDS} |"
        "\n|---|---|"
    )
    for window, measured in rates.items():
        print(f"| {window} | {statistics.median(measured):,.0f} |")


def measure_window(window: int) -> results.Values:
    """Jobs per second with at most `window` ids on RQ's list, on a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="window-") as temporary,
        mock.patch.object(jobs.scripts, "WINDOW", window),
    ):
        server = RedisServer(Path(temporary) / "redis", appendfsync="everysec")
        server.start()
        try:
            return {"jobs_per_second": _rate(server)}
        finally:
            server.kill()


def _rate(server: RedisServer) -> float:
    asyncio.run(_submit_all(server.url, JOBS, {"prompt": "a"}))
    start = time.perf_counter()
    threads = [threading.Thread(target=_drain, args=[server, str(number)]) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return JOBS / (time.perf_counter() - start - 0.5)  # at the end each worker waits half a second for another job


def _drain(server: RedisServer, name: str) -> None:
    with server.client() as redis:
        claims = JobClaims(redis, name, JobLimits())
        while popped := redis.blmove(keys.RQ_LIST, keys.RQ_INTERMEDIATE, 0.5, "LEFT", "RIGHT"):
            if record := claims.claim(str(popped)):
                claims.finish(record.id, record.token, State.SUCCEEDED, result={})


if __name__ == "__main__":
    main()
