"""A time limit for calls that block, such as those to a network's file system that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class TookTooLong(Exception):
    """The call did not end within its limit. It may still end later."""


class TimeLimit:
    """Runs calls in threads of their own and stops waiting after `seconds`. Thread-safe.

    A thread whose call hangs cannot be ended. While `most_hanging` of them exist, further calls are refused at once, so
    that a store that hangs for a day does not fill the process with threads.
    """

    def __init__(self, seconds: float, most_hanging: int = 8) -> None:
        self.seconds = seconds
        self._most_hanging = most_hanging
        self._hanging: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """The call's result, or what it raises.

        Raises:
            TookTooLong
        """
        with self._lock:
            self._hanging = {thread for thread in self._hanging if thread.is_alive()}
            if len(self._hanging) >= self._most_hanging:
                raise TookTooLong(f"{len(self._hanging)} earlier calls still hang")
        outcome: list[T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                outcome.append(call(*arguments))
            except BaseException as error:  # raised again in the caller's thread
                failure.append(error)

        thread = threading.Thread(target=work, name="limited-call", daemon=True)
        thread.start()
        thread.join(self.seconds)
        if thread.is_alive():
            with self._lock:
                self._hanging.add(thread)
            raise TookTooLong(f"no answer within {self.seconds:g} s")
        if failure:
            raise failure[0]
        return outcome[0]
