"""The worker's hold on its model process: start, talk, kill, replace."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from worker import tether
from worker.messages import receive, send

log = logging.getLogger(__name__)


class ChildDied(Exception):
    """The model process is gone; `reason` says how."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ModelProcess:
    """One `worker.model_process` at a time. Not thread-safe: it belongs to the thread that runs jobs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._ready = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ensure_started(self) -> None:
        """Start a process where none lives; its model loads meanwhile."""
        if self._process and self._process.poll() is None:
            return
        self.kill()
        ours, theirs = socket.socketpair()
        try:
            # Tethered: amid a long UNet call it would not notice that its pipe is closed.
            argv = [sys.executable, "-m", "worker.model_process", str(theirs.fileno())]
            self._process = subprocess.Popen(tether.command(argv, signal.SIGKILL), pass_fds=[theirs.fileno()])
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        self._ready = False

    def wait_ready(self, seconds: float) -> bool:
        """Whether the model is loaded, waiting for at most `seconds`.

        Raises:
            ChildDied: when the process ended while loading.
        """
        deadline = time.monotonic() + seconds
        while not self._ready:
            message = self.next_message(max(deadline - time.monotonic(), 0))
            if message is None:
                return False
            self._ready = message["kind"] == "ready"
        return True

    def send(self, kind: str, **fields: Any) -> None:
        """Raises ChildDied when nobody is there to hear it."""
        try:
            send(self._open(), kind, **fields)
        except OSError as error:
            raise ChildDied(self._how_it_ended()) from error

    def next_message(self, timeout: float) -> dict[str, Any] | None:
        """The next message, or None after `timeout` seconds.

        Raises:
            ChildDied
        """
        connection = self._open()
        try:
            return receive(connection) if connection.poll(timeout) else None
        except (EOFError, OSError) as error:
            raise ChildDied(self._how_it_ended()) from error

    def next_bytes(self) -> bytes:
        """The bytes that follow a `done` or a `preview`.

        Raises:
            ChildDied
        """
        try:
            return self._open().recv_bytes()
        except (EOFError, OSError) as error:
            raise ChildDied(self._how_it_ended()) from error

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        if self._process:
            self._process.kill()
            self._process.wait()
        if self._connection:
            self._connection.close()
        self._process = self._connection = None
        self._ready = False

    def _open(self) -> Connection:
        if self._connection is None:
            raise ChildDied("the model process is not running")
        return self._connection

    def _how_it_ended(self) -> str:
        if self._process is None:
            return "the model process is not running"
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the model process closed its pipe"
        if status < 0:
            return f"the model process was killed by {signal.Signals(-status).name}"
        return f"the model process exited with status {status}"
