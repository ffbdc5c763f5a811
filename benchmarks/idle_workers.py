"""`python -m benchmarks.idle_workers`: what workers that wait for jobs cost the Redis-protocol server.

Each simulated worker sends what a real one sends, at the same pace: a heartbeat, and a wait for a job. The server's
share is the processor time of its main thread, of which there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from pathlib import Path

from redis.asyncio import BlockingConnectionPool, Redis

from jobs import keys
from jobs.limits import JobLimits
from jobs.reconciling import beat, pause_seconds, turn_seconds
from jobs.scripts import source
from testkit.processes import RedisServer
from worker.rq_worker import PanoramaWorker

LIMITS = JobLimits()
ENTRY = json.dumps({"able": [f"model-{number}" for number in range(5)], "broken": {}})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle_workers", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="idle-") as temporary:
        server = RedisServer(Path(temporary) / "redis", appendfsync="everysec", maxclients="10000")
        server.start()
        try:
            share, commands = asyncio.run(_measure(server.url, arguments.workers, arguments.seconds))
        finally:
            server.kill()
    print(
        f"{arguments.workers} idle workers: {share:.1%} of the server's thread,"
        f" {commands / arguments.workers:.2f} commands a second each"
    )


async def _measure(url: str, workers: int, seconds: float) -> tuple[float, float]:
    """The share of the server's main thread, and all commands a second, those inside scripts not counted."""
    waiting = Redis(
        connection_pool=BlockingConnectionPool.from_url(url, max_connections=workers, timeout=None, socket_timeout=60)
    )
    others = Redis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=50, timeout=None))
    sent = [0]
    crew = [asyncio.create_task(_beat(others, f"host-{number}-0-a", sent)) for number in range(workers)]
    crew += [asyncio.create_task(_wait(waiting, f"host-{number}-0-a", sent)) for number in range(workers)]
    await asyncio.sleep(20 + PanoramaWorker.dequeue_timeout)  # until they are spread out
    before, counted = await _processor_seconds(others), sent[0]
    await asyncio.sleep(seconds)
    share = (await _processor_seconds(others) - before) / seconds
    rate = (sent[0] - counted) / seconds
    stopped = [task for task in crew if task.done()]
    for task in crew:
        task.cancel()
    await asyncio.gather(*crew, return_exceptions=True)
    for task in stopped:
        task.result()  # raises what stopped it
    await waiting.aclose()
    await others.aclose()
    return share, rate


async def _processor_seconds(redis: Redis) -> float:
    used = await redis.info("cpu")
    return float(used["used_cpu_user_main_thread"]) + float(used["used_cpu_sys_main_thread"])


async def _beat(redis: Redis, name: str, sent: list[int]) -> None:
    """As `worker.leases.LeaseKeeper` without a lease."""
    script = redis.register_script(source("beat"))
    args = beat(LIMITS, name, turn_seconds(LIMITS), entry=ENTRY, worker=True)
    await asyncio.sleep(random.uniform(0, 10))
    while True:
        await script(args=args)
        sent[0] += 1
        await asyncio.sleep(pause_seconds(LIMITS))


async def _wait(redis: Redis, name: str, sent: list[int]) -> None:
    """As `worker.rq_worker.PanoramaWorker`."""
    script = redis.register_script(source("claim_refused"))
    await asyncio.sleep(random.uniform(0, 20))
    while True:
        await script(args=[name, LIMITS.lease_ms, ENTRY, "0" * 32])
        await redis.client_id()
        await redis.blmove(keys.RQ_LIST, keys.RQ_INTERMEDIATE, PanoramaWorker.dequeue_timeout, "LEFT", "RIGHT")
        sent[0] += 3


if __name__ == "__main__":
    main()
