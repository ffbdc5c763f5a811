"""Fixtures of tests of the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.fake_model import STEP_SECONDS
from testkit.fake_model_stack import worker
from testkit.faulty_worker import HANGING_STORE
from testkit.job_checker import JobChecker
from tests.worker.two_jobs import TwoJobs


@pytest.fixture
def store_blocker(tmp_path: Path) -> Path:
    """A file. While it exists, the store of `two_jobs` does not answer."""
    path = tmp_path / "store-blocker"
    path.touch()
    return path


@pytest.fixture
def two_jobs(checker: JobChecker, store_blocker: Path) -> Callable[..., TwoJobs]:
    """Starts a worker that waits for its store with one job and paints the next."""

    def start(steps: int = 40, **settings: str) -> TwoJobs:
        first, second = checker.submit(), checker.submit(seed=8, num_inference_steps=steps)
        environment = {HANGING_STORE: str(store_blocker), STEP_SECONDS: "0.05", **settings}
        process = worker(checker, **environment)
        checker.running(second, step=2)
        assert checker.get(first)["state"] == "running"
        return process, first, second

    return start
