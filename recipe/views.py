"""The plan of views: where on the canvas each window of the model is denoised. Plain integers, no torch.

MultiDiffusion (arXiv 2302.08113) calls these the mappings F_i of equation 5. The original's `get_views` floors the
count of views, so up to stride - 1 cells at the right and lower edge belong to no view and come out as zeros. Here the
last view lies flush with the edge, so that every cell is covered for every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """A square window in latent cells; `bottom` and `right` are exclusive.

    On a circular canvas `right` may exceed the width: those columns continue at column 0.
    """

    top: int
    bottom: int
    left: int
    right: int


def plan_views(
    height: int, width: int, window: int, stride: int, *, circular: bool = False, shift: tuple[int, int] = (0, 0)
) -> tuple[View, ...]:
    """Cover a canvas of `height` x `width` latent cells with `window`-sized views every `stride` cells.

    Where (side - window) is a multiple of the stride, these are exactly the original's views, in its order. `shift`
    (rows, columns; each less than the stride) moves the grid up and to the left; views that would leave the canvas lie
    flush with its edge instead, and on a circular one the columns continue.

    Raises:
        ValueError: when a side is smaller than the window or the stride leaves gaps.
    """
    tops, lefts = view_starts(height, width, window, stride, circular=circular, shift=shift)
    return views_at(tops, lefts, window)


def view_starts(
    height: int, width: int, window: int, stride: int, *, circular: bool = False, shift: tuple[int, int] = (0, 0)
) -> tuple[list[int], list[int]]:
    """The first rows and the first columns of the views of `plan_views`, ascending: every pair of them is a view.

    Raises:
        ValueError: as `plan_views`.
    """
    if min(height, width) < window:
        raise ValueError(f"no {window}x{window} view fits a canvas of {height}x{width} cells")
    if not 1 <= stride <= window:
        raise ValueError(f"stride {stride} is not in 1..{window}: views would leave gaps")
    down, across = shift
    if circular:
        lefts = sorted((left - across) % width for left in range(0, width, stride))
    else:
        lefts = _starts(width, window, stride, across)
    return _starts(height, window, stride, down), lefts


def views_at(tops: Sequence[int], lefts: Sequence[int], window: int) -> tuple[View, ...]:
    """The view at every pair of a first row and a first column, row by row."""
    return tuple(View(top, top + window, left, left + window) for top in tops for left in lefts)


def _starts(length: int, window: int, stride: int, shift: int) -> list[int]:
    last = length - window
    return sorted({min(max(start, 0), last) for start in range(-shift, last + stride, stride)})
