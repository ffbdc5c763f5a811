"""A time limit for calls that block, such as those to a network's file system that does not answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class TookTooLong(Exception):
    """The call did not end within its limit. It may still end later."""


class TimeLimit:
    """Runs calls in threads of their own and stops waiting after `seconds`. Thread-safe.

    A thread whose call hangs cannot be ended; being a daemon, it does not keep the process from ending. While
    `most_hanging` of them exist, further calls are refused at once, so that a store that hangs for a day does not fill
    the process with threads.
    """

    def __init__(self, seconds: float, most_hanging: int = 8) -> None:
        self.seconds = seconds
        self._most_hanging = most_hanging
        self._hanging: set[Future[Any]] = set()
        self._lock = threading.Lock()

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """The call's result, or what it raises.

        Raises:
            TookTooLong
        """
        outcome = self._start(call, arguments)
        try:
            return outcome.result(self.seconds)
        except TimeoutError:
            if outcome.done():  # it is the call's own
                raise
            raise self._give_up(outcome) from None

    async def run_async(self, call: Callable[..., T], *arguments: Any) -> T:
        """As `run`, without blocking the event loop."""
        outcome = self._start(call, arguments)
        waiting = asyncio.wrap_future(outcome)
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # also when nobody waits any more
        await asyncio.wait([waiting], timeout=self.seconds)
        if not waiting.done():
            raise self._give_up(outcome)
        return waiting.result()

    def _start(self, call: Callable[..., T], arguments: tuple[Any, ...]) -> Future[T]:
        with self._lock:
            self._hanging = {hanging for hanging in self._hanging if not hanging.done()}
            if len(self._hanging) >= self._most_hanging:
                raise TookTooLong(f"{len(self._hanging)} earlier calls still hang")
        outcome: Future[T] = Future()
        outcome.set_running_or_notify_cancel()

        def work() -> None:
            try:
                outcome.set_result(call(*arguments))
            except BaseException as error:  # raised again by whoever waits
                outcome.set_exception(error)

        threading.Thread(target=work, name="limited-call", daemon=True).start()
        return outcome

    def _give_up(self, outcome: Future[Any]) -> TookTooLong:
        with self._lock:
            self._hanging.add(outcome)
        return TookTooLong(f"no answer within {self.seconds:g} s")
