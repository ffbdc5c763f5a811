"""One process that `panoramas up` supervises."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from worker import parent_death

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Process:
    """One supervised process. When it ends by itself it is restarted after a delay that doubles each time."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    parent_death_signal: signal.Signals
    pass_fds: tuple[int, ...] = ()
    output: IO[bytes] | None = None
    popen: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float | None = None
    delay: float = 0.5

    def start(self) -> None:
        # A session of its own: Ctrl-C in the terminal reaches only the supervisor, which stops the processes in order.
        self.popen = subprocess.Popen(
            parent_death.command(self.argv, self.parent_death_signal),
            env=self.environment,
            pass_fds=self.pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
        )
        self.started_at, self.restart_at = time.monotonic(), None

    def restart_if_ended(self) -> None:
        """Restart a process that has ended, once its delay is over. A run of a minute resets the delay."""
        now = time.monotonic()
        if self.popen is None or self.popen.poll() is None:
            return
        if self.restart_at is None:
            self.delay = 0.5 if now - self.started_at > 60 else min(self.delay * 2, 30.0)
            self.restart_at = now + self.delay
            log.error("%s ended with status %s; restarting it in %.0f s", self.name, self.popen.returncode, self.delay)
        elif now >= self.restart_at:
            self.start()

    def stop(self, grace: float, hurry: Callable[[], bool]) -> None:
        """Send SIGTERM, a second SIGTERM once `hurry()` is true, and SIGKILL after `grace` seconds."""
        if self.popen is None:
            return
        self.popen.terminate()
        deadline, hurried = time.monotonic() + grace, False
        while self.popen.poll() is None:
            if hurry() and not hurried:
                self.popen.terminate()
                hurried, deadline = True, min(deadline, time.monotonic() + 10)
            if time.monotonic() > deadline:
                log.warning("%s did not stop in time and was killed", self.name)
                self.popen.kill()
                self.popen.wait()
            time.sleep(0.05)
