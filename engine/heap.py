"""glibc's heap: what is freed is kept for the next call, and given back when it is needed elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 1 << 30  # bytes of a block


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks for the next allocation.

    It would give large ones back, and the kernel zero every page of the next one: a seventh of a CPU's time in a UNet
    whose activations are that large.
    """
    for mallopt in _function("mallopt"):
        # Older ones take no such threshold; to set the other alone would be worse than neither.
        if mallopt(_M_MMAP_THRESHOLD, _LARGEST):
            mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST - 1)


def give_freed_memory_back() -> None:
    """Return what is kept to the system, so that it counts as free."""
    for trim in _function("malloc_trim"):
        trim(0)


def _function(name: str) -> Iterator[Callable[..., Any]]:
    """The C library's function of that name, where it has one."""
    with contextlib.suppress(AttributeError, OSError):
        yield getattr(ctypes.CDLL(None), name)
