"""glibc's heap: keep freed memory for the next call, and give it back when something else needs it."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 1 << 30  # bytes of a block


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks for the next allocation.

    By default it returns large blocks to the kernel, which zeroes every page of the next one: a seventh of a CPU's time
    in a UNet with activations of that size.
    """
    # Older libraries refuse so large a threshold; to set the other one alone would be worse than neither.
    if _call("mallopt", _M_MMAP_THRESHOLD, _LARGEST):
        _call("mallopt", _M_TRIM_THRESHOLD, 2 * _LARGEST - 1)


def give_freed_memory_back() -> None:
    """Return what is kept to the system, so that it counts as free."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> int:
    """What the C library's function of that name returns; 0, as for failure, where it has none."""
    function = getattr(ctypes.CDLL(None), name, None)
    return int(function(*arguments)) if function else 0
