"""`python -m testkit.fake_model FD`: a model process without a model, for faults of the worker around it.

It speaks the worker's protocol over the same pipe and starts at once, where a real one imports torch for seconds.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from worker.messages import receive, send

STEP_SECONDS = "FAKE_STEP_SECONDS"
BROKEN = "a picture that lacks a pixel"


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        send(connection, "ready")
        while True:
            message = receive(connection)
            if message["kind"] == "paint":
                _paint(connection, message["input"])
    except (EOFError, OSError):
        pass


def _paint(connection: Connection, wanted: dict[str, Any]) -> None:
    steps = wanted["num_inference_steps"]
    send(connection, "phase", phase="denoising")
    for step in range(1, steps + 1):
        time.sleep(float(os.environ.get(STEP_SECONDS, "0.02")))
        send(connection, "step", step=step, total_steps=steps)
        if connection.poll(0) and receive(connection)["kind"] == "stop":
            send(connection, "interrupted")
            return
    width, height = wanted["width"], wanted["height"]
    send(connection, "done", timings={}, notices=[], revision="fake", width=width, height=height)
    colour = hashlib.sha256(repr(sorted(wanted.items())).encode()).digest()[:3]  # the same input, the same picture
    broken = wanted["prompt"] == BROKEN
    connection.send_bytes(colour * (width * height - broken))


if __name__ == "__main__":
    main()
