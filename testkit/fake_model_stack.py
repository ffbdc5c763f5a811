"""Workers whose model process has no model, with the faults that a test asks for. `tests/conftest.py` has fixtures."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testkit import faulty_worker
from testkit.job_checker import JobChecker
from testkit.processes import RedisServer, Stack, eventually, running_stack
from testkit.workerless import model_on_paper

LEASE = 2.0


@contextmanager
def running_fake_model_stack(folder: Path) -> Iterator[Stack]:
    """Redis and the API with short timeouts. Each test starts its own workers."""
    redis = RedisServer(folder / "redis", appendfsync="everysec", **{"auto-aof-rewrite-percentage": "0"})
    settings = {
        "LEASE_SECONDS": str(LEASE),
        "DRAIN_SECONDS": "20",
        "STEP_TIMEOUT": "5",
        "STORE_TIMEOUT": "1",
    }
    environment = {f"PANORAMAS_{name}": value for name, value in settings.items()}
    with running_stack(folder, model_on_paper(folder), workers=0, redis=redis, **environment) as stack:
        yield stack


@contextmanager
def checker_of(stack: Stack) -> Iterator[JobChecker]:
    """A checker for one test. Its workers, their logs and its jobs are removed afterwards."""
    checker = JobChecker(stack)
    yield checker
    checker.http.close()
    for process in [process for process in stack.processes if "worker" in process.args]:  # type: ignore[operator]
        process.kill()
        process.wait()
        stack.processes.remove(process)
    for log in stack.folder.glob("worker-*.log"):
        log.unlink()
    with stack.redis.client() as redis:
        redis.flushall()


def worker(checker: JobChecker, **environment: str) -> subprocess.Popen[bytes]:
    """Start a worker."""
    return checker.stack.start_worker("testkit.faulty_worker", **environment)


def signaled_worker(
    checker: JobChecker, marker: Path, point: str, signals: str, **environment: str
) -> subprocess.Popen[bytes]:
    """Start a worker, and wait until it has received these signals at a point of the waiting job."""
    fault = {faulty_worker.POINT: point, faulty_worker.SIGNALS: signals, faulty_worker.MARKER: str(marker)}
    victim = worker(checker, **fault, **environment)
    eventually(marker.exists, 30, f"{signals} at {point}")
    return victim


def images(checker: JobChecker, job_id: str) -> list[str]:
    """The files that the image store has for a job, each by its claim's number and the suffixes of its name."""
    return sorted(
        re.sub("-[0-9a-f]{32}", "", path.name) for path in (checker.stack.folder / "data" / "images" / job_id).glob("*")
    )
