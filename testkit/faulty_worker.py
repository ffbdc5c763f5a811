"""`python -m testkit.faulty_worker worker`: the real worker, which gets a signal once, at a chosen point of a job.

The point is one of the worker's own calls, and the worker sends itself the signal just before or after it. Nothing else
could hit the microseconds between the rename of a picture's file and its commit.
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

# Environment: the point, the signals, a file that is created when they are sent, the model process to run, and the
# seconds by which the clock is wrong.
POINT, SIGNALS, MARKER, MODEL, CLOCK = "FAULT_POINT", "FAULT_SIGNALS", "FAULT_MARKER", "FAULT_MODEL", "FAULT_CLOCK"
# And a file: while it exists, the store does not answer.
HANGING_STORE = "FAULT_HANGING_STORE"
POINTS = ("popped", "claimed", "step", "stored", "committed")


def _send_signals() -> None:
    """Send this process the signals, unless that was already done."""
    marker = Path(os.environ[MARKER])
    if marker.exists():
        return
    marker.touch()
    for name in os.environ[SIGNALS].split(","):
        os.kill(os.getpid(), signal.Signals[name])
    time.sleep(0.1)  # another thread may get the signal first, and this one would continue for a moment


def _signal_around(
    owner: type, name: str, *, before: bool, when: Callable[[dict[str, Any]], bool] = lambda _: True
) -> None:
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(*args: Any, **fields: Any) -> Any:
        if before and when(fields):
            _send_signals()
        result = method(*args, **fields)
        if not before and when(fields):
            _send_signals()
        return result

    setattr(owner, name, wrapped)


def _hang_while(blocker: Path) -> None:
    put = ImageStore.put

    def slow_put(*args: Any) -> StoredImage:
        while blocker.exists():
            time.sleep(0.02)
        return put(*args)

    ImageStore.put = slow_put  # type: ignore[method-assign, assignment]


def main() -> None:
    if blocker := os.environ.get(HANGING_STORE):
        _hang_while(Path(blocker))
    match os.environ.get(POINT):
        case "popped":
            _signal_around(JobClaims, "claim", before=True)
        case "claimed":
            _signal_around(JobClaims, "claim", before=False)
        case "step":
            _signal_around(JobClaims, "progress", before=True, when=lambda fields: fields.get("step", 0) >= 2)
        case "stored":
            _signal_around(ImageStore, "put", before=False)
        case "committed":
            _signal_around(JobClaims, "finish", before=False)
    if offset := float(os.environ.get(CLOCK, "0")):
        true_time = time.time
        time.time = lambda: true_time() + offset
    command = [sys.executable, "-m", os.environ.get(MODEL, "testkit.fake_model")]
    worker.main.ModelProcess = functools.partial(ModelProcess, command)  # type: ignore[attr-defined, assignment]
    panoramas()


if __name__ == "__main__":
    main()
