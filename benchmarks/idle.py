"""`python -m benchmarks.idle`: how long the model process waits between two queued jobs.

The wait begins when one job's pixels have left the device and ends when the next job's painting begins. Real processes
paint real pictures, with a tiny model, which is fast on a CPU, or with the one that `--models` names. For comparison
the worker also runs with each picture stored and committed before it takes the next job ("in line").
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from benchmarks import results
from jobs.record import JobRecord
from recipe.presets import PRESETS
from testkit.job_checker import JobChecker
from testkit.processes import RedisServer, running_stack
from worker.leases import Lease
from worker.messages import Done

# Environment of the worker and its model process: the file for the times, and whether to store pictures in line.
MOMENTS, IN_LINE = "IDLE_MOMENTS", "IDLE_IN_LINE"


def main() -> None:
    match sys.argv[1:]:
        case ["model", fd]:
            be_model_process(fd)
        case ["worker", *_]:
            be_worker()
        case _:
            measure()


def measure() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20, help="of each preset")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument(
        "--models", help="as PANORAMAS_MODELS; default: a tiny Stable Diffusion that paints in two steps"
    )
    parser.add_argument(
        "--presets", nargs="+", choices=[*PRESETS], default=["reference", "fast"], help="to paint with --models"
    )
    parser.add_argument("--stored", nargs="+", choices=["in line", "meanwhile"], default=["in line", "meanwhile"])
    results.add_option(parser)
    options = parser.parse_args()
    if options.jobs < 4:
        parser.error("--jobs: at least 4; the first does not count")
    size = {"width": options.width, "height": options.height}
    bodies: dict[str, dict[str, Any]] = {"two steps": {**size, "num_inference_steps": 2, "view_stride": 32}}
    if options.models:
        steps = {name: PRESETS[name].num_inference_steps for name in options.presets}
        bodies = {name: {**size, "preset": name, "num_inference_steps": count} for name, count in steps.items()}
    print("| stored | jobs | between two, median ms | p95 ms | of a job's painting, s | idle share | device busy |")
    print("|---|---|---|---|---|---|---|", flush=True)
    setting = {**size, "jobs": options.jobs, "models": options.models, "presets": options.presets}
    kept = results.Results(options.results, total=len(options.stored), benchmark="idle", **setting)
    for stored in options.stored:
        rows = kept.measure(
            f"pictures stored {stored}", partial(measure_rows, options.models, bodies, options.jobs, stored)
        )
        for name in bodies:
            print(f"| {stored} | {name} | {rows[name]} |", flush=True)


def measure_rows(models: str | None, bodies: dict[str, dict[str, Any]], count: int, stored: str) -> dict[str, str]:
    """The row of each kind of job, after `count` jobs of each were painted by one worker."""
    with tempfile.TemporaryDirectory(prefix="idle-") as temporary, Utilization() as busy:
        folder, queued = Path(temporary), [body for body in bodies.values() for _ in range(count)]
        jobs = moments(folder, models or tiny(folder), queued, "1" if stored == "in line" else "")
    rows = {}
    for number, name in enumerate(bodies):
        # Without the first of a kind: before it another kind was painted, or nothing.
        alike = jobs[number * count :][:count][1:]
        rows[name] = f"{row(alike)} | {busy.between(alike[0][0], alike[-1][1])}"
    return rows


def row(jobs: list[tuple[float, float]]) -> str:
    """The figures of jobs that were painted one after another."""
    gaps = [1000 * (began - ended) for (_, ended), (began, _) in pairwise(jobs)]
    painting = statistics.median(ended - began for began, ended in jobs)
    median, p95 = statistics.median(gaps), statistics.quantiles(gaps, n=20, method="inclusive")[-1]
    return f"{median:.1f} | {p95:.1f} | {painting:.2f} | {median / 1000 / (painting + median / 1000):.2%}"


class Utilization:
    """The share of time in which an NVIDIA GPU ran any kernel, from its driver; empty without such a GPU."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._query: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if program := shutil.which("nvidia-smi"):
            device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
            query = [f"--id={device}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]
            self._query = subprocess.Popen([program, *query], stdout=subprocess.PIPE, text=True)
            threading.Thread(target=self._read, args=[self._query.stdout], daemon=True).start()
        return self

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line.strip().isdigit():
                self._samples.append((time.monotonic(), float(line)))

    def between(self, begin: float, end: float) -> str:
        """The mean between two moments, as a percentage; empty if not known."""
        samples = [percent for moment, percent in self._samples if begin <= moment <= end]
        return f"{statistics.mean(samples):.1f}%" if samples else ""

    def __exit__(self, *_: object) -> None:
        if self._query:
            self._query.kill()
            self._query.wait()


def tiny(folder: Path) -> str:
    from testkit.tiny import (
        build_tiny_model,
    )  # takes seconds to import; the worker and the model process do not need it

    return f"tiny={build_tiny_model(folder / 'model', window=64)}"


def moments(folder: Path, models: str, bodies: list[dict[str, Any]], in_line: str) -> list[tuple[float, float]]:
    """(when painting began, when the pixels were on the host) of each job in seconds. All jobs are queued first."""
    file = folder / "moments"
    redis = RedisServer(folder / "redis", appendfsync="everysec")  # as `panoramas up` starts it
    with running_stack(folder, models, workers=0, redis=redis, **{MOMENTS: str(file), IN_LINE: in_line}) as stack:
        checker = JobChecker(stack)
        queued = [checker.submit(**{**body, "seed": seed}) for seed, body in enumerate(bodies)]
        stack.start_worker("benchmarks.idle")
        for number, job_id in enumerate(queued, 1):
            assert checker.ended(job_id, seconds=600)["state"] == "succeeded"
            results.progress(f"{number} of {len(queued)} jobs painted")
        checker.http.close()
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()]


def be_model_process(fd: str) -> None:
    """The real model process, which also writes down when each painting begins and ends."""
    from engine.paint import paint
    from worker import model_process

    moments_file = Path(os.environ[MOMENTS])

    @functools.wraps(paint)
    def timed(*args: Any, **options: Any) -> Any:
        began = time.monotonic()
        panorama = paint(*args, **options)
        ended = time.monotonic()
        with moments_file.open("a") as file:
            file.write(json.dumps([began, ended]) + "\n")
        return panorama

    model_process.paint = timed  # type: ignore[attr-defined]
    sys.argv = ["model", fd]
    model_process.main()


def be_worker() -> None:
    """The real worker. With IN_LINE it waits until each picture is stored before it takes the next job."""
    import worker.main
    from panoramas.cli import main as panoramas
    from worker.child import ModelProcess
    from worker.finishing import Finisher

    take = Finisher.take

    def take_and_wait(self: Finisher, record: JobRecord, lease: Lease, done: Done) -> bool:
        return take(self, record, lease, done) and self._wait()

    if os.environ[IN_LINE]:
        Finisher.take = take_and_wait  # type: ignore[method-assign]
    command = [sys.executable, "-m", "benchmarks.idle", "model"]
    worker.main.ModelProcess = functools.partial(ModelProcess, command)  # type: ignore[attr-defined, assignment]
    panoramas()


if __name__ == "__main__":
    main()
