"""Fixtures: tiny real models, a real Redis-protocol server, and the whole service as real processes."""

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
    """One server for tests that flush it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def jobs(redis_server: RedisServer) -> Iterator[Jobs]:
    """Both sides of the jobs on an empty server."""
    with redis_server.client() as redis:
        redis.flushall()
        yield Jobs(redis_server, redis)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, other_tiny_model: Path) -> Iterator[Stack]:
    """The service with two tiny models and one worker, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("stack")
    with running_stack(folder, f"tiny={tiny_model},other={other_tiny_model}") as running:
        yield running


@pytest.fixture(scope="session")
def workerless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    """The API alone, with a test in the place of the worker: for what no picture has to be painted for."""
    with running_workerless_api(tmp_path_factory.mktemp("workerless")) as running:
        yield running


@pytest.fixture(scope="session")
def fake_model_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis and the API, short limits; each test starts workers of its own, without a model."""
    with running_fake_model_stack(tmp_path_factory.mktemp("fake-model")) as running:
        yield running


@pytest.fixture
def checker(fake_model_stack: Stack) -> Iterator[JobChecker]:
    """For jobs on `fake_model_stack`; the test's workers are gone afterwards."""
    with checker_of(fake_model_stack) as watching:
        yield watching


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Is there once the fault has struck."""
    return tmp_path / "struck"


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A plain HTTP client of `stack`."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


def _build(tmp_path_factory: pytest.TempPathFactory, name: str, **options: int) -> Path:
    from testkit.tiny import build_tiny_model  # transformers and diffusers take seconds to import

    return build_tiny_model(tmp_path_factory.mktemp("models") / name, **options)
