"""The command `panoramas` as a process, for tests: run to its end, or started and interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from testkit.http import jobs_made
from testkit.processes import ROOT, eventually
from testkit.workerless import WorkerlessApi

SMALL = "--width 128 --height 128 --steps 1".split()  # for the tiny model
OURS = "--width 256 --height 136 --steps 5".split()  # for the API without a worker
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}  # commands that run in another folder import this checkout


def arguments(*command: str) -> list[str]:
    return [sys.executable, "-m", "panoramas", *command]


def run(
    *command: str, cwd: Path = ROOT, stdin: bytes | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command with what it printed. A traceback is a failure of the test."""
    done = subprocess.run(
        arguments(*command), cwd=cwd, input=stdin, capture_output=True, timeout=60, env={**HERE, **environment}
    )
    text = done.stderr.decode()
    assert "Traceback" not in text, text
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode("latin-1"), text)


def look_at(path: Path) -> tuple[str | None, tuple[int, int]]:
    """A picture's format and size, if all of it is there."""
    with Image.open(path) as picture:
        picture.load()
        return picture.format, picture.size


@contextmanager
def started(*command: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        arguments(*command), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=HERE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def newest(workerless: WorkerlessApi, before: int) -> dict[str, Any]:
    """The job that a command has submitted."""
    eventually(lambda: jobs_made(workerless.stack) > before, 30, "a job is submitted")
    return workerless.http.get("/jobs?limit=1").json()["items"][0]
