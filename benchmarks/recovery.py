"""`python -m benchmarks.recovery`: how soon a job goes on after its worker or its model process was killed.

And how soon it ends after a cancel. Default settings, real workers, a tiny model.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from testkit.job_checker import JobChecker
from testkit.processes import Stack, eventually, model_process_of, running_stack
from testkit.tiny import build_tiny_model

LONG = {"width": 1024, "height": 256, "num_inference_steps": 200}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory(prefix="recovery-") as temporary:
        folder = Path(temporary)
        model = build_tiny_model(folder / "model", window=16)
        with running_stack(folder, f"tiny={model}", PANORAMAS_LEASE_SECONDS="10") as stack:
            measure(stack, times)


def measure(stack: Stack, times: int) -> None:
    """The table."""
    checker = JobChecker(stack)
    warm(checker)
    alone = [after_model_kill(checker) for _ in range(times)]
    loads = [after for after, _ in alone]
    spare = [seconds for _, seconds in alone]
    canceled = [after_cancel(checker) for _ in range(times)]
    stack.start_worker()
    killed = [after_worker_kill(checker) for _ in range(times)]
    checker.http.close()
    rows = {
        "worker killed: seconds until another runs the job": killed,
        "the only model process killed: seconds until the job runs again": spare,
        "of these, seconds until the new process has its model": loads,
        "running job canceled: seconds until it has ended": [seconds for seconds, _ in canceled],
        "running job canceled: steps it still made": [float(steps) for _, steps in canceled],
    }
    print(f"| of {times} | median | worst |\n|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} |")


def warm(checker: JobChecker) -> None:
    """Wait until a worker paints."""
    checker.ended(checker.submit(), seconds=120)


def after_model_kill(checker: JobChecker) -> tuple[float, float]:
    """(seconds until a new model process says it is ready, seconds until the job runs again), by one worker."""
    job_id = begin(checker)
    (worker,) = (process for process in checker.stack.processes if "worker" in process.args)  # type: ignore[operator]
    log = next(iter(sorted(checker.stack.folder.glob("worker-*.log"))))
    model = model_process_of(worker)
    assert model
    loaded = log.read_text().count("loaded in")
    start = time.monotonic()
    model.kill()
    eventually(lambda: log.read_text().count("loaded in") > loaded, 60)
    load = time.monotonic() - start
    again(checker, job_id)
    seconds = time.monotonic() - start
    end(checker, job_id)
    return load, seconds


def after_worker_kill(checker: JobChecker) -> float:
    """Seconds until another worker runs the job; a new worker takes the place of the dead one."""
    job_id = begin(checker)
    with checker.stack.redis.client() as redis:
        name = str(redis.hget(f"panoramas:job:{job_id}", "worker"))
    start = time.monotonic()
    psutil.Process(int(name.split("-")[-2])).kill()
    again(checker, job_id)
    seconds = time.monotonic() - start
    end(checker, job_id)
    checker.stack.start_worker()
    eventually(lambda: checker.http.get("/readyz").json()["workers"] >= 2, 60)
    return seconds


def after_cancel(checker: JobChecker) -> tuple[float, int]:
    """(seconds, steps) from the cancel's answer to the end."""
    job_id = begin(checker)
    step = checker.http.post(f"/jobs/{job_id}/cancel").json()["progress"]["step"]
    start = time.monotonic()
    job = checker.ended(job_id)
    return time.monotonic() - start, job["progress"]["step"] - step


def begin(checker: JobChecker) -> str:
    job_id = checker.submit(**LONG)
    checker.running(job_id, step=2)
    return job_id


def again(checker: JobChecker, job_id: str) -> None:
    eventually(lambda: (job := checker.get(job_id))["attempt"] == 2 and job["state"] == "running", 60)


def end(checker: JobChecker, job_id: str) -> None:
    checker.http.post(f"/jobs/{job_id}/cancel")
    checker.ended(job_id)


if __name__ == "__main__":
    main()
