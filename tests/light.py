"""Workers whose model process is a light one, with the faults that a test asks for. Fixtures are in `conftest.py`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import faulty_worker
from tests.desk import model_on_paper
from tests.processes import RedisServer, Stack, eventually, running_stack
from tests.witness import Witness

LEASE = 2.0


@contextmanager
def light_stack(folder: Path) -> Iterator[Stack]:
    """Redis and the API, short limits; each test starts workers of its own."""
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
def witness_of(light: Stack) -> Iterator[Witness]:
    """A witness of one test; its workers, their logs and its jobs are gone afterwards."""
    witness = Witness(light)
    yield witness
    witness.http.close()
    for process in [process for process in light.processes if "worker" in process.args]:  # type: ignore[operator]
        process.kill()
        process.wait()
        light.processes.remove(process)
    for log in light.folder.glob("worker-*.log"):
        log.unlink()
    with light.redis.client() as redis:
        redis.flushall()


def worker(witness: Witness, **environment: str) -> subprocess.Popen[bytes]:
    return witness.stack.start_worker("tests.faulty_worker", **environment)


def struck(witness: Witness, marker: Path, point: str, signals: str, **environment: str) -> subprocess.Popen[bytes]:
    """A worker that has just been struck at a point of the waiting job."""
    fault = {faulty_worker.POINT: point, faulty_worker.SIGNALS: signals, faulty_worker.MARKER: str(marker)}
    victim = worker(witness, **fault, **environment)
    eventually(marker.exists, 30, f"{signals} at {point}")
    return victim


def images(witness: Witness, job_id: str) -> list[str]:
    return sorted(path.name for path in (witness.stack.folder / "data" / "images" / job_id).glob("*"))
