"""The worker's side of its model process: start it, talk to it, kill it, replace it."""

from __future__ import annotations

import contextlib
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
from pathlib import Path

from worker import parent_death
from worker.messages import Command, MessageError, Ready, Report, receive_report, send

log = logging.getLogger(__name__)


class ModelProcessDied(Exception):
    """The model process is gone, or sent something that is not a message; `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ModelProcess:
    """One `worker.model_process` at a time. Not thread-safe: it belongs to the thread that runs jobs.

    A separate thread reads the pipe, so that a process that is stopped in the middle of a message, or that sends a
    large picture, does not keep its caller from checking deadlines.

    Args:
        command: what to run; the number of the pipe's file descriptor is added as the last argument.
        compiled_folder: where PyTorch keeps compiled kernels, unless the user has set TORCHINDUCTOR_CACHE_DIR.
        on_report: called with every report; must not fail.
    """

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-m", "worker.model_process"),
        *,
        compiled_folder: Path | None = None,
        on_report: Callable[[Report], None] | None = None,
    ) -> None:
        self._command = list(command)
        self._environment = _environment(compiled_folder)
        self._on_report = on_report
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._inbox = _Inbox()
        self._reader: threading.Thread | None = None
        self._started_at = 0.0
        self._ready = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def loaded(self) -> bool:
        """Whether the process has reported that it is ready."""
        return self._ready

    @property
    def age(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self._started_at

    @property
    def has_unread(self) -> bool:
        """Whether another report has already arrived."""
        return not self._inbox.empty()

    def ensure_started(self) -> None:
        """Start a process unless one is alive. Returns before its model is loaded."""
        if self._process and self._process.poll() is None:
            return
        self.kill()
        ours, theirs = socket.socketpair()
        try:
            argv = [*self._command, str(theirs.fileno())]
            self._process = subprocess.Popen(
                # During a long UNet call the process would not notice that its pipe is closed.
                parent_death.command(argv, signal.SIGKILL),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # so that `kill` reaches its children as well
                env=self._environment,
            )
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        self._inbox = _Inbox()
        self._reader = threading.Thread(target=_read_reports, args=(self._connection, self._inbox), daemon=True)
        self._reader.start()
        self._started_at = time.monotonic()
        self._ready = False

    def wait_ready(self, seconds: float) -> bool:
        """Whether the process is ready, waiting for at most `seconds`.

        Raises:
            ModelProcessDied: when the process ended while loading.
        """
        deadline = time.monotonic() + seconds
        while not self._ready:
            if self.next_report(max(deadline - time.monotonic(), 0)) is None:
                return False
        return True

    def send(self, command: Command) -> None:
        """Send a command to the process.

        Raises:
            ModelProcessDied
        """
        try:
            send(self._open_connection(), command)
        except OSError as error:
            raise ModelProcessDied(self._how_it_ended()) from error

    def next_report(self, timeout: float) -> Report | None:
        """The next report, or None after `timeout` seconds.

        Raises:
            ModelProcessDied: when the process has ended, or what it sent cannot be read.
        """
        self._open_connection()
        try:
            report = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None
        if report is None or isinstance(report, MessageError):
            self._inbox.put(report)  # nothing follows: every later call ends here as well
            raise ModelProcessDied(f"the model process sent: {report}" if report else self._how_it_ended())
        self._ready = self._ready or isinstance(report, Ready)
        if self._on_report:
            self._on_report(report)
        return report

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        if self._process:
            if self._process.returncode is None:  # not yet reaped, so that the number is still its own
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
        if self._connection:
            _shut_down(self._connection)
        if self._reader:
            self._reader.join()
        if self._connection:
            self._connection.close()
        self._process = self._connection = self._reader = None
        self._ready = False

    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise ModelProcessDied("the model process is not running")
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


# None: the pipe has ended. MessageError: what came cannot be read. Either is the last entry.
_Inbox = queue.SimpleQueue[Report | MessageError | None]


def _shut_down(connection: Connection) -> None:
    """End the pipe for its reader, also while a descendant that left the process's group holds the other end."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as pipe:
        pipe.shutdown(socket.SHUT_RDWR)


def _read_reports(connection: Connection, inbox: _Inbox) -> None:
    try:
        while True:
            inbox.put(receive_report(connection))
    except MessageError as error:
        log.error("the model process sent: %s", error)
        inbox.put(error)
    except (EOFError, OSError):
        inbox.put(None)


def _environment(compiled_folder: Path | None) -> dict[str, str]:
    """The environment of the model process; what the user has set wins."""
    # OpenMP's threads spin while they wait for each other. On a CPU that was busy with other work as well, one picture
    # took 125 s instead of 10 s because of that.
    defaults = {"OMP_WAIT_POLICY": "PASSIVE"}
    if compiled_folder:
        # PyTorch reads it when diffusers is imported, which is too early for the process to set it itself.
        defaults["TORCHINDUCTOR_CACHE_DIR"] = str(compiled_folder)
    return {**defaults, **os.environ}
