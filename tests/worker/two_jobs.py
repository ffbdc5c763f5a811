"""A worker with two jobs: the picture of the first is being stored while the second is painted."""

from __future__ import annotations

import subprocess
import time

from testkit.job_checker import JobChecker
from testkit.processes import eventually

TwoJobs = tuple[subprocess.Popen[bytes], str, str]  # the worker, and the ids of its jobs


def assert_succeeded(checker: JobChecker, *jobs: str, attempt: int = 1) -> None:
    """Wait until these jobs have ended."""
    for job_id in jobs:
        job = checker.ended(job_id)
        assert (job["state"], job["attempt"]) == ("succeeded", attempt)


def wait_until_painted(checker: JobChecker, job_id: str, steps: int) -> None:
    """Wait until the worker has the job's picture. It may not have recorded the last step."""
    eventually(lambda: checker.get(job_id)["progress"]["step"] >= steps - 2)
    time.sleep(0.5)
