"""The thread that renews a worker's leases."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from jobs.record import State
from testkit.jobs import Jobs
from testkit.processes import ROOT, eventually
from worker.leases import LeaseKeeper


@pytest.mark.chaos
def test_an_attempt_that_never_ends_loses_its_lease_though_its_worker_lives(jobs: Jobs) -> None:
    """A worker whose main thread hangs, for instance in a write to a store that does not answer."""
    job_id = jobs.submit()
    keepers = [LeaseKeeper(jobs.worker(name, lease_seconds=1), longest=0.5) for name in ("hanging", "healthy")]
    record = jobs.worker("hanging").claim(job_id)
    assert record
    keepers[0].hold(record)
    try:
        for keeper in keepers:
            keeper.start()
        eventually(lambda: jobs.get(job_id).record.state == State.QUEUED, 20)
    finally:
        for keeper in keepers:
            keeper.stop()


_HANGING = """
import sys, time
from redis import Redis
from jobs.claims import JobClaims
from jobs.limits import JobLimits
from worker.leases import LeaseKeeper
from worker.main import _end_now

claims = JobClaims(Redis.from_url(sys.argv[1], decode_responses=True), "hanging", JobLimits(lease_seconds=1))
keeper = LeaseKeeper(claims, longest=0.5, on_hanging=_end_now)
keeper.hold(claims.claim(sys.argv[2]))
keeper.start()
time.sleep(60)
"""


def test_a_worker_past_its_limit_ends_itself_so_that_it_is_started_again(jobs: Jobs) -> None:
    start = time.monotonic()
    command = [sys.executable, "-c", _HANGING, jobs.server.url, jobs.submit()]
    ended = subprocess.run(command, check=False, cwd=ROOT, timeout=50, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "this worker ends itself" in ended.stderr
    assert time.monotonic() - start < 40
