"""`python -m benchmarks.recovery`: how soon a job goes on after its worker or its model process was killed.

Also how soon a job ends after it was canceled. Default settings, real workers, a tiny model.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.results import progress
from testkit.job_checker import JobChecker
from testkit.processes import Stack, eventually, model_process_of, running_stack
from testkit.tiny import build_tiny_model

LONG = {"width": 1024, "height": 256, "num_inference_steps": 200}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory(prefix="recovery-") as temporary:
        folder = Path(temporary)
        model = build_tiny_model(folder / "model", window=16)
        with running_stack(folder, f"tiny={model}", PANORAMAS_LEASE_SECONDS="10") as stack:
            measure(stack, times)


def measure(stack: Stack, times: int) -> None:
    """Print the table."""
    checker = JobChecker(stack)
    warm(checker)
    model_kills = [after_model_kill(checker) for _ in numbered(times, "kills of the model process")]
    cancels = [after_cancel(checker) for _ in numbered(times, "cancels")]
    stack.start_worker()
    worker_kills = [after_worker_kill(checker) for _ in numbered(times, "kills of a worker")]
    checker.http.close()
    rows = {
        "worker killed: seconds until another runs the job": worker_kills,
        "the only model process killed: seconds until the job runs again": [again for _, again in model_kills],
        "of these, seconds until the new process has its model": [loaded for loaded, _ in model_kills],
        "running job canceled: seconds until it has ended": [seconds for seconds, _ in cancels],
        "running job canceled: steps it still made": [float(steps) for _, steps in cancels],
    }
    print(f"| of {times} | median | worst |\n|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} |")


def numbered(times: int, name: str) -> Iterator[int]:
    """1 to `times`, with progress on stderr after each."""
    for number in range(1, times + 1):
        yield number
        progress(f"{number} of {times} {name}")


def warm(checker: JobChecker) -> None:
    """Wait until a worker has painted a job."""
    checker.ended(checker.submit(), seconds=120)


def after_model_kill(checker: JobChecker) -> tuple[float, float]:
    """(seconds until a new model process has its model, seconds until the job runs again), with one worker."""
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
    """(seconds, steps) from the answer to the cancel until the job has ended."""
    job_id = begin(checker)
    step = checker.http.post(f"/jobs/{job_id}/cancel").json()["progress"]["step"]
    start = time.monotonic()
    job = checker.ended(job_id)
    return time.monotonic() - start, job["progress"]["step"] - step


def begin(checker: JobChecker) -> str:
    """Submit a long job and wait until it runs; its id."""
    job_id = checker.submit(**LONG)
    checker.running(job_id, step=2)
    return job_id


def again(checker: JobChecker, job_id: str) -> None:
    """Wait until the job's second attempt runs."""
    eventually(lambda: (job := checker.get(job_id))["attempt"] == 2 and job["state"] == "running", 60)


def end(checker: JobChecker, job_id: str) -> None:
    """Cancel the job and wait for its end."""
    checker.http.post(f"/jobs/{job_id}/cancel")
    checker.ended(job_id)


if __name__ == "__main__":
    main()
