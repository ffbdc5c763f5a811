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
    down, across = shift
    tops = row_starts(height, window, stride, down)
    return views_at(tops, column_starts(width, window, stride, across, circular=circular), window)


def row_starts(height: int, window: int, stride: int, shift: int = 0) -> list[int]:
    """The first rows of the views of `plan_views`, ascending.

    Raises:
        ValueError: as `plan_views`.
    """
    if height < window:
        raise ValueError(f"no {window}x{window} view fits a canvas of {height} cells")
    if not 1 <= stride <= window:
        raise ValueError(f"stride {stride} is not in 1..{window}: views would leave gaps")
    last = height - window
    return sorted({min(max(start, 0), last) for start in range(-shift, last + stride, stride)})


def column_starts(width: int, window: int, stride: int, shift: int = 0, *, circular: bool = False) -> list[int]:
    """The first columns, likewise: every pair of a first row and a first column is a view.

    On a circular canvas that is no multiple of the stride, the views are spread evenly. At every `stride` cells from
    column 0 they would lie closer where the last meets the first, and a turned picture would be another one.

    Raises:
        ValueError: as `plan_views`.
    """
    if not circular or width < window:
        return row_starts(width, window, stride, shift)
    count = -(-width // stride)
    return sorted((view * width // count - shift) % width for view in range(count))


def views_at(tops: Sequence[int], lefts: Sequence[int], window: int) -> tuple[View, ...]:
    """The view at every pair of a first row and a first column, row by row."""
    return tuple(View(top, top + window, left, left + window) for top in tops for left in lefts)
