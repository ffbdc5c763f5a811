"""A short chaos run for every test run; `make chaos` has the long one."""

from __future__ import annotations

from pathlib import Path

from tests.faults.chaos import kept, run, table


def test_random_signals_lose_no_job_and_commit_none_twice(tmp_path: Path) -> None:
    rows = run(jobs=40, workers=3, seconds=9, redis_kills=1, seed=1, folder=tmp_path, fake_model=True)
    assert kept(rows), table(rows, seed=1)
