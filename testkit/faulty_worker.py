"""`python -m testkit.faulty_worker worker`: the real worker, which a signal strikes at a chosen point of a job, once.

The point is a call of the real worker's own, and the signal is one that it sends itself just before or after it: no
other way hits the microsecond between a picture's rename and its commit.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import worker.main
from jobs.claims import JobClaims
from jobs.store import ImageStore, StoredImage
from panoramas.cli import main as panoramas
from worker.child import ModelProcess

# Environment: where to strike, with which signals, the file that tells it was done, the model process, a wrong clock.
POINT, SIGNALS, MARKER, MODEL, CLOCK = "FAULT_POINT", "FAULT_SIGNALS", "FAULT_MARKER", "FAULT_MODEL", "FAULT_CLOCK"
# And a file: while it is there, the store does not answer.
HANGING_STORE = "FAULT_HANGING_STORE"
POINTS = ("popped", "claimed", "step", "stored", "committed")


def _strike() -> None:
    marker = Path(os.environ[MARKER])
    if marker.exists():
        return
    marker.touch()
    for name in os.environ[SIGNALS].split(","):
        os.kill(os.getpid(), signal.Signals[name])
    time.sleep(0.1)  # another thread may take the signal, and this one would go on for a moment


def _around(owner: type, name: str, *, before: bool, when: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
    method = getattr(owner, name)

    @functools.wraps(method)
    def struck(*args: Any, **fields: Any) -> Any:
        if before and when(fields):
            _strike()
        result = method(*args, **fields)
        if not before and when(fields):
            _strike()
        return result

    setattr(owner, name, struck)


def _hang_while(held: Path) -> None:
    put = ImageStore.put

    def slow_put(*args: Any) -> StoredImage:
        while held.exists():
            time.sleep(0.02)
        return put(*args)

    ImageStore.put = slow_put  # type: ignore[method-assign]


def main() -> None:
    if held := os.environ.get(HANGING_STORE):
        _hang_while(Path(held))
    match os.environ.get(POINT):
        case "popped":
            _around(JobClaims, "claim", before=True)
        case "claimed":
            _around(JobClaims, "claim", before=False)
        case "step":
            _around(JobClaims, "progress", before=True, when=lambda fields: fields.get("step", 0) >= 2)
        case "stored":
            _around(ImageStore, "put", before=False)
        case "committed":
            _around(JobClaims, "finish", before=False)
    if offset := float(os.environ.get(CLOCK, "0")):
        true_time = time.time
        time.time = lambda: true_time() + offset
    command = [sys.executable, "-m", os.environ.get(MODEL, "testkit.fake_model")]
    worker.main.ModelProcess = functools.partial(ModelProcess, command)  # type: ignore[misc, assignment]
    panoramas()


if __name__ == "__main__":
    main()
