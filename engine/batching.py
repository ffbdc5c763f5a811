"""How many views share a UNet call: MultiDiffusion's micro-batches, and what happens when they do not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

log = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(slots=True)
class MicroBatches:
    """At most `size` views a UNet call, and fewer for good once the device had no memory for them.

    Views are spread evenly, 25 as 13 and 12 for a size of 16, since a small last call wastes a device.
    """

    size: int = 16

    def next(self, remaining: int) -> int:
        """Views of the next call when `remaining` are left."""
        calls = -(-remaining // self.size)
        return -(-remaining // calls)

    def run(self, items: Sequence[Item], call: Callable[[Sequence[Item]], None]) -> None:
        """Hand all items to `call`, some at a time and in order; one that runs out of memory is made again with half.

        Raises:
            torch.OutOfMemoryError: when not even a single view fits.
        """
        done = 0
        while done < len(items):
            batch = items[done : done + self.next(len(items) - done)]
            try:
                call(batch)
            except RuntimeError as error:  # which torch.OutOfMemoryError is
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise torch.OutOfMemoryError(str(error)) from error
                self.size = len(batch) // 2
                log.warning("%d views at once do not fit into memory; going on with %d", len(batch), self.size)
            else:
                done += len(batch)
                continue
            # Only out here are the failed call's tensors let go, which the exception's traceback held.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host in its own words, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
