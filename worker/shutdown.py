"""What SIGTERM and SIGINT mean to the worker."""

from __future__ import annotations

import signal
import time


class Shutdown:
    """The first signal: take no further job, and put the running one back if it is not done within `grace_seconds`.
    The second: put it back at once."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace = grace_seconds
        self._deadline: float | None = None
        self._immediate = False

    def install(self) -> None:
        """Handle the signals of this process."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._deadline is not None

    @property
    def immediate(self) -> bool:
        """Whether to leave without waiting for the end of the current step."""
        return self._immediate

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond a signal by more than a moment."""
        until = time.monotonic() + seconds
        while not self.requested and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    def grace_over(self) -> bool:
        """Whether the grace period has passed."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _on_signal(self, signum: int, _frame: object) -> None:
        # Only set attributes here: an exception raised by a handler would surface between any two bytecodes.
        now = time.monotonic()
        self._immediate = self._deadline is not None
        self._deadline = now if self._immediate else now + self._grace
