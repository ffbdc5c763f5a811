"""`python -m benchmarks.queue_depth`: does a long queue slow the API down, and what does a queued job cost?

Two services side by side, one with 100 queued jobs and one with 100,000, are asked the same things in turn, so that
what else the machine does meets both. No worker runs. Also: how fast jobs are handed out, by the length of RQ's list.
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

import httpx
from redis.asyncio import BlockingConnectionPool, Redis

import jobs.scripts
from jobs import keys
from jobs.board import JobBoard
from jobs.claims import JobClaims, JobLimits
from jobs.record import State
from testkit.processes import RedisServer, Stack, running_stack
from testkit.workerless import PANORAMA, model_on_paper

OWNERS, CONNECTIONS = 10, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="depth-") as temporary:
        print_depths(Path(temporary), options.few, options.many, options.rounds)
    with tempfile.TemporaryDirectory(prefix="window-") as temporary:
        print_windows(Path(temporary))


def print_depths(folder: Path, few: int, many: int, rounds: int) -> None:
    """The table of both services, and of what lies in Redis."""
    with ExitStack() as resources:
        services = []
        for depth in (few, many):
            (folder / str(depth)).mkdir()
            models = model_on_paper(folder / str(depth))
            redis = RedisServer(folder / str(depth) / "redis", appendfsync="everysec")
            stack = running_stack(
                folder / str(depth), models, workers=0, redis=redis, PANORAMAS_MAX_QUEUED=str(2 * many + rounds)
            )
            services.append(Service(resources.enter_context(stack), depth))
        for service in services:
            service.fill()
        seconds = {name: ([], []) for name in services[0].calls()}  # type: dict[str, tuple[list[float], list[float]]]
        for _ in range(rounds):
            for number, service in enumerate(services):
                for name, call in service.calls().items():
                    start = time.perf_counter()
                    call()
                    seconds[name][number].append(time.perf_counter() - start)
        print(f"| median of {rounds}, ms | {few:,} queued | {many:,} queued | ratio |\n|---|---|---|---|")
        for name, both in seconds.items():
            ours, theirs = (statistics.median(one) * 1000 for one in both)
            print(f"| {name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f} |")
        print(f"| bytes of Redis a job | | {services[1].bytes_a_job:,.0f} | |")


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
        """Jobs as the API makes them, without its HTTP: of ten owners and both priorities."""
        first = self._http.post("/panoramas", json=PANORAMA).json()
        before = self._redis.info("memory")["used_memory"]
        self._ids = asyncio.run(_submit_all(self._url, self.depth, first["input"]))
        self.bytes_a_job = (self._redis.info("memory")["used_memory"] - before) / self.depth

    def calls(self) -> dict[str, Callable[[], Any]]:
        """What is timed."""
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
        from testkit.jobs import FAULT

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
            # A tenth of the jobs are those of callers without a key, whom the API's own requests are.
            owner = str(number % OWNERS) if number % OWNERS else ""
            priority: Any = "batch" if number % 2 else "interactive"
            await board.submit(ids[number], params, {"order": str(number)}, owner=owner, priority=priority)

    await asyncio.gather(*(submit(range(first, count, CONNECTIONS)) for first in range(CONNECTIONS)))
    await redis.aclose()
    return [job_id for number, job_id in enumerate(ids) if number % OWNERS == 0]


def print_windows(folder: Path, count: int = 2000, workers: int = 8, rounds: int = 5) -> None:
    """Jobs a second through pop, claim and commit by workers that paint nothing, for lengths of RQ's list."""
    server = RedisServer(folder / "redis", appendfsync="everysec")
    server.start()
    chosen = jobs.scripts.WINDOW
    rates: dict[int, list[float]] = {1: [], 2: [], 4: [], 16: []}
    try:
        for _ in range(rounds):
            for window, measured in rates.items():
                jobs.scripts.WINDOW = window
                measured.append(_rate(server, count, workers))
    finally:
        jobs.scripts.WINDOW = chosen
        server.kill()
    print(
        f"\n| ids on RQ's list | jobs a second, {workers} workers that paint nothing, median of {rounds} |\n|---|---|"
    )
    for window, measured in rates.items():
        print(f"| {window} | {statistics.median(measured):,.0f} |")


def _rate(server: RedisServer, count: int, workers: int) -> float:
    with server.client() as redis:
        redis.flushall()
    asyncio.run(_submit_all(server.url, count, {"prompt": "a"}))
    start = time.perf_counter()
    threads = [threading.Thread(target=_drain, args=[server, str(number)]) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - start - 0.5)  # at the end each waits half a second for more


def _drain(server: RedisServer, name: str) -> None:
    with server.client() as redis:
        claims = JobClaims(redis, name, JobLimits())
        while popped := redis.blmove(keys.RQ_LIST, keys.RQ_INTERMEDIATE, 0.5, "LEFT", "RIGHT"):
            if record := claims.claim(str(popped)):
                claims.finish(record.id, record.token, State.SUCCEEDED, result={})


if __name__ == "__main__":
    main()
