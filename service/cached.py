"""An answer that many may ask for, computed at most once in a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """What `compute` returned or raised less than `seconds` ago. Those who ask meanwhile wait for the same answer."""

    def __init__(self, compute: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._compute = compute
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._task: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The answer; raises what `compute` raised."""
        async with self._lock:
            if self._task is None or time.monotonic() >= self._until:
                # A task, so that it goes on when the client that has caused it hangs up.
                self._task = asyncio.create_task(self._computed())
                await asyncio.wait({self._task})
                self._until = time.monotonic() + self._seconds
        return self._task.result()

    async def _computed(self) -> T:
        return await self._compute()
