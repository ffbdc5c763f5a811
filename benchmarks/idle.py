"""`python -m benchmarks.idle`: how long the device waits between two queued jobs, as the model process sees it.

From the moment at which one job's pixels have left the device until the next job's prompt is encoded on it. Real
processes, real pictures; a tiny model, so that a CPU paints them soon, or the one that `--models` names. Beside it the
same with each picture stored and committed before the next job is taken.
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
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from jobs.record import JobRecord
from recipe.presets import PRESETS
from testkit.job_checker import JobChecker
from testkit.processes import RedisServer, running_stack
from worker.leases import Lease
from worker.messages import Done

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
    """The table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20, help="of each preset")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--models", help="as PANORAMAS_MODELS; a tiny Stable Diffusion in two steps unless given")
    parser.add_argument("--presets", nargs="+", choices=[*PRESETS], default=["reference", "fast"], help="of --models")
    parser.add_argument("--stored", nargs="+", choices=["in line", "meanwhile"], default=["in line", "meanwhile"])
    options = parser.parse_args()
    if options.jobs < 4:
        parser.error("--jobs: at least 4, the first of which does not count")
    size = {"width": options.width, "height": options.height}
    bodies: dict[str, dict[str, Any]] = {"two steps": {**size, "num_inference_steps": 2, "view_stride": 32}}
    if options.models:
        steps = {name: PRESETS[name].num_inference_steps for name in options.presets}
        bodies = {name: {**size, "preset": name, "num_inference_steps": count} for name, count in steps.items()}
    print("| stored | jobs | between two, median ms | p95 ms | of a job's painting, s | idle share | device busy |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for stored in options.stored:
        with tempfile.TemporaryDirectory(prefix="idle-") as temporary, Utilization() as busy:
            folder, queued = Path(temporary), [body for body in bodies.values() for _ in range(options.jobs)]
            jobs = moments(folder, options.models or tiny(folder), queued, "1" if stored == "in line" else "")
        for number, name in enumerate(bodies):
            # Not the first of a kind, before which another kind was painted or nothing.
            alike = jobs[number * options.jobs :][: options.jobs][1:]
            print(f"| {stored} | {name} | {row(alike)} | {busy.between(alike[0][0], alike[-1][1])} |", flush=True)


def row(jobs: list[tuple[float, float]]) -> str:
    """Of jobs one after another."""
    gaps = [1000 * (begun - ended) for (_, ended), (begun, _) in pairwise(jobs)]
    painting = statistics.median(ended - begun for begun, ended in jobs)
    median, p95 = statistics.median(gaps), statistics.quantiles(gaps, n=20, method="inclusive")[-1]
    return f"{median:.1f} | {p95:.1f} | {painting:.2f} | {median / 1000 / (painting + median / 1000):.2%}"


class Utilization:
    """What share of the time an NVIDIA GPU ran any kernel, by its driver; nothing where there is none."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []
        self._asking: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if program := shutil.which("nvidia-smi"):
            device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
            query = [f"--id={device}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]
            self._asking = subprocess.Popen([program, *query], stdout=subprocess.PIPE, text=True)
            threading.Thread(target=self._read, args=[self._asking.stdout], daemon=True).start()
        return self

    def _read(self, answers: Iterable[str]) -> None:
        for line in answers:
            if line.strip().isdigit():
                self._seen.append((time.monotonic(), float(line)))

    def between(self, begin: float, end: float) -> str:
        """The mean between two moments, as a percentage; empty if not known."""
        seen = [percent for moment, percent in self._seen if begin <= moment <= end]
        return f"{statistics.mean(seen):.1f}%" if seen else ""

    def __exit__(self, *_: object) -> None:
        if self._asking:
            self._asking.kill()
            self._asking.wait()


def tiny(folder: Path) -> str:
    from testkit.tiny import build_tiny_model  # takes seconds to import, and no other role needs it

    return f"tiny={build_tiny_model(folder / 'model', window=64)}"


def moments(folder: Path, models: str, bodies: list[dict[str, Any]], in_line: str) -> list[tuple[float, float]]:
    """(painting begun, pixels on the host) of each job, seconds; all were queued before the first began."""
    told = folder / "moments"
    redis = RedisServer(folder / "redis", appendfsync="everysec")  # as `panoramas up` starts it
    with running_stack(folder, models, workers=0, redis=redis, **{MOMENTS: str(told), IN_LINE: in_line}) as stack:
        checker = JobChecker(stack)
        queued = [checker.submit(**{**body, "seed": seed}) for seed, body in enumerate(bodies)]
        stack.start_worker("benchmarks.idle")
        for job_id in queued:
            assert checker.ended(job_id, seconds=600)["state"] == "succeeded"
        checker.http.close()
    return [tuple(json.loads(line)) for line in told.read_text().splitlines()]


def be_model_process(fd: str) -> None:
    """The real one, which notes when it begins and ends to paint."""
    from worker import model_process

    paint, told = model_process.paint, Path(os.environ[MOMENTS])

    @functools.wraps(paint)
    def timed(*args: Any, **options: Any) -> Any:
        begun = time.monotonic()
        panorama = paint(*args, **options)
        ended = time.monotonic()
        with told.open("a") as file:
            file.write(json.dumps([begun, ended]) + "\n")
        return panorama

    model_process.paint = timed  # type: ignore[attr-defined]
    sys.argv = ["model", fd]
    model_process.main()


def be_worker() -> None:
    """The real one, which is told to wait for each picture where that is wanted."""
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
    worker.main.ModelProcess = functools.partial(ModelProcess, command)  # type: ignore[misc, assignment]
    panoramas()


if __name__ == "__main__":
    main()
