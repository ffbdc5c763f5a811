"""What a signal to the worker means."""

from __future__ import annotations

import signal
import time


class Stopping:
    """SIGTERM or SIGINT: take no further job, and let the running one go once the grace is over. A second: at once."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace = grace_seconds
        self._deadline: float | None = None
        self._hurried = False

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    @property
    def requested(self) -> bool:
        return self._deadline is not None

    @property
    def hurried(self) -> bool:
        """Whether not even the end of the present step is to be waited for."""
        return self._hurried

    def over(self) -> bool:
        """Whether the grace has passed."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _on_signal(self, signum: int, _frame: object) -> None:
        # Only attributes are set here: a handler that raises would do so between any two bytecodes.
        now = time.monotonic()
        self._hurried = self._deadline is not None
        self._deadline = now if self._hurried else now + self._grace
