"""The worker's hold on its model process: start, talk, kill, replace."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
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
    """One `worker.model_process` at a time. Not thread-safe: it belongs to the thread that runs jobs.

    A thread of its own reads what the process writes: one that is stopped in the middle of a message, or sends a large
    picture, keeps nobody waiting who watches a deadline. None in the inbox means that nothing follows. `hear` is told
    of every message, and never fails.
    """

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-m", "worker.model_process"),
        hear: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._command = list(command)
        self._hear = hear
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        self._started_at = 0.0
        self._ready = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def loaded(self) -> bool:
        """Whether the process has said that its first model is loaded."""
        return self._ready

    @property
    def age(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self._started_at

    @property
    def has_said_more(self) -> bool:
        """Whether a message waits to be taken."""
        return not self._inbox.empty()

    def ensure_started(self) -> None:
        """Start a process where none lives; its model loads meanwhile."""
        if self._process and self._process.poll() is None:
            return
        self.kill()
        ours, theirs = socket.socketpair()
        try:
            # Tethered: amid a long UNet call it would not notice that its pipe is closed.
            argv = [*self._command, str(theirs.fileno())]
            self._process = subprocess.Popen(
                tether.command(argv, signal.SIGKILL),
                pass_fds=[theirs.fileno()],
                # OpenMP's threads spin while they wait for each other. On a CPU whose cores are busy with something
                # else too, that made one picture take 125 s instead of 10.
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
            )
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        self._inbox = queue.SimpleQueue()
        self._reader = threading.Thread(target=_read, args=(self._connection, self._inbox), daemon=True)
        self._reader.start()
        self._started_at = time.monotonic()
        self._ready = False

    def wait_ready(self, seconds: float) -> bool:
        """Whether the model is loaded, waiting for at most `seconds`.

        Raises:
            ChildDied: when the process ended while loading.
        """
        deadline = time.monotonic() + seconds
        while not self._ready:
            if self.next_message(max(deadline - time.monotonic(), 0)) is None:
                return False
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
        self._open()
        try:
            message = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is None:
            self._inbox.put(None)
            raise ChildDied(self._how_it_ended())
        self._ready = self._ready or message["kind"] == "ready"
        if self._hear:
            self._hear(message)
        return message

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        if self._process:
            self._process.kill()
            self._process.wait()
        if self._reader:
            self._reader.join()  # the end of the process is the end of its pipe
        if self._connection:
            self._connection.close()
        self._process = self._connection = self._reader = None
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


def _read(connection: Connection, inbox: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    try:
        while True:
            inbox.put(receive(connection))
    except (EOFError, OSError):
        inbox.put(None)
