"""Work that takes long goes on in slices between which the event loop serves others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_SLICE_SECONDS = 0.005


class Slices:
    """Runs iterators for a few milliseconds at a time. However many requests do so, one slice runs between two looks at
    the sockets.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, which takes no longer than a few slices."""
        async with self._turn:
            await asyncio.sleep(0)
            return work()

    async def of(self, work: Iterator[T]) -> AsyncIterator[T]:
        """Every element of `work`. What computes them belongs into the iterator, since only that is sliced."""
        ended = False
        while not ended:
            done: list[T] = []
            async with self._turn:
                await asyncio.sleep(0)
                end = time.perf_counter() + _SLICE_SECONDS
                while time.perf_counter() < end:
                    try:
                        done.append(next(work))
                    except StopIteration:
                        ended = True
                        break
            for element in done:
                yield element
