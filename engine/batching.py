"""How many tiles share a call of the network: MultiDiffusion's micro-batches, and what happens when they do not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

import torch

log = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(slots=True)
class MicroBatches:
    """At most `size` items a call, and fewer for good once the device had no memory for them.

    Items are spread evenly, 25 as 13 and 12 for a size of 16, since a small last call wastes a device.
    """

    size: int = 16

    def split(self, items: Sequence[Item]) -> Iterator[Batch[Item]]:
        """All items in order, some at a time. Each batch is a context manager around the call that is made with it:

            for batch in batches.split(tiles):
                with batch as some:
                    call(some)

        A call that runs out of memory is made again with half as many items.

        Raises:
            torch.OutOfMemoryError: out of the `with`, when not even a single item fits.
        """
        done = 0
        while done < len(items):
            batch = Batch(items[done : done + self._next(len(items) - done)], self)
            yield batch
            if batch.failed and torch.cuda.is_available():
                torch.cuda.empty_cache()  # only here are the tensors free that the failed call's traceback held
            done += 0 if batch.failed else len(batch.items)

    def _next(self, remaining: int) -> int:
        calls = -(-remaining // self.size)
        return -(-remaining // calls)


@dataclass(slots=True)
class Batch(Generic[Item]):
    """Items of one call. Left by an out-of-memory error, it makes the batches smaller and swallows the error."""

    items: Sequence[Item]
    batches: MicroBatches
    failed: bool = field(default=False, init=False)

    def __enter__(self) -> Sequence[Item]:
        return self.items

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        if error is None or not is_out_of_memory(error):
            return False
        if len(self.items) == 1:
            raise torch.OutOfMemoryError(str(error)) from error
        self.failed = True
        self.batches.size = len(self.items) // 2
        log.warning("%d tiles at once do not fit into memory; going on with %d", len(self.items), self.batches.size)
        return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host in its own words, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
