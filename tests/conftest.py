"""Fixtures: tiny real models, a real Redis-protocol server, and the whole service as real processes.

This file also says which tests are slow, so that `pytest -m "not chaos and not slow"` takes less than two minutes on
two cores and still runs tests of every room.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from testkit.fake_model_stack import checker_of, running_fake_model_stack
from testkit.job_checker import JobChecker
from testkit.jobs import Jobs
from testkit.processes import RedisServer, Stack, running_stack
from testkit.workerless import WorkerlessApi, running_workerless_api

# Tests are slow that use one of these fixtures, since each of them starts processes that import torch or a browser.
SLOW_FIXTURES = {"browser", "stack", "studio"}
# In these modules most tests start, kill or wait for processes of their own. A single slow test in another module has
# the marker itself.
SLOW_MODULES = {
    "benchmarks/test_engine_benchmark.py",
    "client/test_interrupts.py",
    "client/test_up.py",
    "documents/test_examples.py",
    "engine/test_model_kinds.py",
    "faults/test_chaos.py",
    "service/test_api_process.py",
    "service/test_contract.py",
    "service/test_metrics.py",
    "service/test_tracing.py",
    "worker/test_attempts.py",
    "worker/test_attempts_outages.py",
    "worker/test_finishing.py",
    "worker/test_model_faults.py",
    "worker/test_model_process.py",
    "worker/test_store_outages.py",
}


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests."""
    here = Path(__file__).parent
    if missing := [name for name in SLOW_MODULES if not (here / name).exists()]:
        raise pytest.UsageError(f"tests/conftest.py names modules that do not exist: {', '.join(sorted(missing))}")
    for item in items:
        module = item.path.relative_to(here).as_posix()
        if module in SLOW_MODULES or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion with views of 16 latents (128 px)."""
    return _build(tmp_path_factory, "tiny", window=16)


@pytest.fixture(scope="session")
def other_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return _build(tmp_path_factory, "other", window=16, weight_seed=1)


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion with Stable Diffusion's own views of 64 latents (512 px)."""
    return _build(tmp_path_factory, "tiny-sd", window=64)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests. Each test flushes it first."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def jobs(redis_server: RedisServer) -> Iterator[Jobs]:
    """The service's and the worker's side of the jobs, on an empty server."""
    with redis_server.client() as redis:
        redis.flushall()
        yield Jobs(redis_server, redis)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, other_tiny_model: Path) -> Iterator[Stack]:
    """The service with two tiny models and one worker, for tests that change nothing for others."""
    folder = tmp_path_factory.mktemp("stack")
    with running_stack(folder, f"tiny={tiny_model},other={other_tiny_model}") as running:
        yield running


@pytest.fixture(scope="session")
def workerless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    """The API without a worker: the test itself claims and ends jobs, and nothing is painted."""
    with running_workerless_api(tmp_path_factory.mktemp("workerless")) as running:
        yield running


@pytest.fixture(scope="session")
def fake_model_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis and the API with short limits. Each test starts its own workers, whose model processes have no model."""
    with running_fake_model_stack(tmp_path_factory.mktemp("fake-model")) as running:
        yield running


@pytest.fixture
def checker(fake_model_stack: Stack) -> Iterator[JobChecker]:
    """Submits and checks jobs on `fake_model_stack`. The test's workers are stopped afterwards."""
    with checker_of(fake_model_stack) as watching:
        yield watching


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists once the fault has happened."""
    return tmp_path / "struck"


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """An HTTP client of `stack`."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


def _build(tmp_path_factory: pytest.TempPathFactory, name: str, **options: int) -> Path:
    from testkit.tiny import build_tiny_model  # transformers and diffusers take seconds to import

    return build_tiny_model(tmp_path_factory.mktemp("models") / name, **options)
