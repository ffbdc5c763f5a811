"""`python -m testkit.fake_model FD`: a model process without a model, for tests of the worker around it.

It exchanges the same messages with the worker, and starts at once, where the real one imports torch for seconds.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from worker.messages import (
    Done,
    Failed,
    Interrupted,
    Paint,
    Phase,
    Ready,
    Step,
    Stop,
    Unavailable,
    receive_command,
    send,
)

# Environment: the model that it cannot load.
CANNOT_LOAD = "FAKE_CANNOT_LOAD"
# Environment: a file. While it exists, the device fails in each picture.
BROKEN_DEVICE = "FAKE_BROKEN_DEVICE"
# Environment: seconds that each step takes, and that encoding the prompt takes.
STEP_SECONDS, ENCODING_SECONDS = "FAKE_STEP_SECONDS", "FAKE_ENCODING_SECONDS"
# Prompts: of a picture that lacks a pixel, and of a job for which it sends bytes that are not a message.
BROKEN, GARBLED = "a picture that lacks a pixel", "bytes that are not a message"


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        if broken := os.environ.get(CANNOT_LOAD):
            send(connection, Unavailable(broken, "it is broken"))
        send(connection, Ready())
        while True:
            command = receive_command(connection)
            if isinstance(command, Paint):
                _paint(connection, command)
    except (EOFError, OSError):
        pass


def _paint(connection: Connection, job: Paint) -> None:
    steps, prompt = job.input["num_inference_steps"], job.input["prompt"]
    if prompt == GARBLED:
        connection.send_bytes(b"\x00 not a message")
        return
    if job.input["model"] == os.environ.get(CANNOT_LOAD):
        send(connection, Unavailable(job.input["model"], "it is broken"))
        return
    if (broken := os.environ.get(BROKEN_DEVICE)) and Path(broken).exists():
        send(connection, Failed("device-error", "CUDA error: an illegal memory access was encountered"))
        return
    send(connection, Phase("encoding"))
    time.sleep(float(os.environ.get(ENCODING_SECONDS, "0")))
    send(connection, Phase("denoising"))
    for step in range(1, steps + 1):
        time.sleep(float(os.environ.get(STEP_SECONDS, "0.02")))
        send(connection, Step(step, steps))
        if connection.poll(0) and isinstance(receive_command(connection), Stop):
            send(connection, Interrupted())
            return
    width, height = job.input["width"], job.input["height"]
    # The same input gives the same picture.
    colour = hashlib.sha256(repr(sorted(job.input.items())).encode()).digest()[:3]
    image = colour * (width * height - (prompt == BROKEN))
    send(connection, Done(image, width, height, steps, timings={}, notices=[], revision="fake"))


if __name__ == "__main__":
    main()
