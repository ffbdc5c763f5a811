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
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from jobs.record import JobRecord
from tests.processes import RedisServer, running_stack
from tests.witness import Witness
from worker.pulse import Watch

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--models", help="as PANORAMAS_MODELS; a tiny Stable Diffusion unless given")
    options = parser.parse_args()
    body = {"width": options.width, "height": options.height, "num_inference_steps": options.steps, "view_stride": 32}
    print("| between two jobs | median ms | p95 ms | of a job's painting, s | idle share |\n|---|---|---|---|---|")
    for name, in_line in (("stored in line", "1"), ("stored meanwhile", "")):
        with tempfile.TemporaryDirectory(prefix="idle-") as temporary:
            folder = Path(temporary)
            jobs = moments(folder, options.models or tiny(folder), options.jobs, body, in_line)
        gaps = [1000 * (begun - ended) for (_, ended), (begun, _) in pairwise(jobs[1:])]
        painting = statistics.median(ended - begun for begun, ended in jobs[1:])
        median, p95 = statistics.median(gaps), statistics.quantiles(gaps, n=20)[-1]
        share = median / 1000 / (painting + median / 1000)
        print(f"| {name} | {median:.1f} | {p95:.1f} | {painting:.2f} | {share:.2%} |")


def tiny(folder: Path) -> str:
    from tests.tiny import build_tiny_model  # takes seconds to import, and no other role needs it

    return f"tiny={build_tiny_model(folder / 'model', window=64)}"


def moments(folder: Path, models: str, jobs: int, body: dict[str, Any], in_line: str) -> list[tuple[float, float]]:
    """(painting begun, pixels on the host) of each job, seconds; all were queued before the first began."""
    told = folder / "moments"
    redis = RedisServer(folder / "redis", appendfsync="everysec")  # as `panoramas up` starts it
    with running_stack(folder, models, workers=0, redis=redis, **{MOMENTS: str(told), IN_LINE: in_line}) as stack:
        witness = Witness(stack)
        queued = [witness.submit(seed=seed, **body) for seed in range(jobs)]
        stack.start_worker("benchmarks.idle")
        for job_id in queued:
            assert witness.ended(job_id, seconds=600)["state"] == "succeeded"
        witness.http.close()
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

    def take_and_wait(self: Finisher, record: JobRecord, watch: Watch, done: dict[str, Any]) -> bool:
        return take(self, record, watch, done) and self._wait()

    if os.environ[IN_LINE]:
        Finisher.take = take_and_wait  # type: ignore[method-assign]
    command = [sys.executable, "-m", "benchmarks.idle", "model"]
    worker.main.ModelProcess = functools.partial(ModelProcess, command)  # type: ignore[misc, assignment]
    panoramas()


if __name__ == "__main__":
    main()
