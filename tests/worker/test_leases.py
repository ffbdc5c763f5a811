"""The thread that renews a worker's leases."""

from __future__ import annotations

import pytest

from jobs.record import State
from testkit.jobs import Jobs
from testkit.processes import eventually
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
