"""Which views are painted for which region. Plain integers: a request's cost is known before anything is queued.

A mask says how much a region counts in each cell: 1 in its box and 0 outside, averaged over a square of
`region_feather`. What the boxes leave over is region 0, the main prompt's, with a mask of the same kind. So a view
touches a region exactly where the view, made larger by the square's radius, meets the region's cells.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.regions import Region
from recipe.views import column_starts, row_starts

# First row or column, and the one after the last
Span = tuple[int, int]
Spans = tuple[Span, ...]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Block:
    """The views at every pair of `tops` and `lefts`, painted for a region, counted from 1; 0 is the main prompt's."""

    region: int
    tops: Sequence[int]
    lefts: Sequence[int]

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)


@dataclass(frozen=True, slots=True)
class Borders:
    """Radius of the square over which masks are averaged, in latent cells along either axis."""

    down: int = 0
    across: int = 0


@dataclass(frozen=True, slots=True)
class Canvas:
    """The canvas of a recipe in latent cells, with the views and regions on it."""

    height: int
    width: int
    window: int
    stride: int
    circular: bool
    borders: Borders
    regions: Sequence[Region]
    _known: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, recipe: Recipe, facts: ModelFacts) -> Canvas:
        """The canvas on which a model of these facts paints `recipe`."""
        height, width = recipe.height // facts.latent_factor, recipe.width // facts.latent_factor
        radius = round(recipe.region_feather * height / 2)
        # On a ring the square must not meet itself.
        across = min(radius, (width - 1) // 2) if recipe.circular else radius
        borders = Borders(radius, across)
        return cls(height, width, facts.window, recipe.view_stride, recipe.circular, borders, recipe.regions)

    def blocks(self, shift: tuple[int, int] = (0, 0)) -> list[Block]:
        """Every view, once for each region that it touches; those of the main prompt first. `shift` as in `plan_views`.

        Raises:
            ValueError: when the canvas is smaller than a view or the stride leaves gaps.
        """
        down, across = shift
        blocks = (
            Block(region, tops, self._once(self._lefts, across, spans))
            for region, tops, spans in self._once(self._tops, down)
        )
        return [block for block in blocks if len(block)]

    def _once(self, compute: Callable[..., T], *arguments: Hashable) -> T:
        """What `compute` gives, computed once: rows depend on the shift down alone, columns on that across."""
        key = (compute.__name__, *arguments)
        if key not in self._known:
            self._known[key] = compute(*arguments)
        return self._known[key]

    def _tops(self, shift: int) -> list[tuple[int, Sequence[int], Spans]]:
        """For each region, or part of one, the first rows of its views and the columns that they must touch."""
        tops = row_starts(self.height, self.window, self.stride, shift)
        if not self.regions:
            return [(0, tops, ((0, self.width),))]
        touched = [
            (_range(tops, rows, self.window, self.borders.down), spans) for rows, spans in self._once(self._bands)
        ]
        found: list[tuple[int, Sequence[int], Spans]] = []
        for first, last in pairwise(sorted({bound for bounds, _ in touched for bound in bounds})):
            free = {span for (low, high), spans in touched if low <= first and last <= high for span in spans}
            found.append((0, tops[first:last], tuple(sorted(free))))
        for number, region in enumerate(self.regions, start=1):
            rows, columns = region.rows(self.height), region.columns(self.width)
            low, high = _range(tops, rows, self.window, self.borders.down)
            found.append((number, tops[low:high], (columns,)))
        return found

    def _bands(self) -> list[tuple[Span, Spans]]:
        """Rows between two neighbouring sides of boxes, and the columns in them that no box covers."""
        sides = sorted({0, self.height, *(side for region in self.regions for side in region.rows(self.height))})
        bands = []
        for first, last in pairwise(sides):
            covered = []
            for region in self.regions:
                top, bottom = region.rows(self.height)
                if top <= first and last <= bottom:
                    covered += _unwrapped(region.columns(self.width), self.width)
            bands.append(((first, last), _complement(covered, self.width)))
        return bands

    def _lefts(self, shift: int, columns: Spans) -> Sequence[int]:
        """The first columns of the views that touch one of several spans of columns."""
        lefts = column_starts(self.width, self.window, self.stride, shift, circular=self.circular)
        if self.circular and self.window + 2 * self.borders.across >= self.width:
            return lefts if columns else ()
        turns = (-self.width, 0, self.width) if self.circular else (0,)
        ranges = sorted(
            _range(lefts, (first + turn, last + turn), self.window, self.borders.across)
            for first, last in columns
            for turn in turns
        )
        touching: list[int] = []
        reached = 0
        for low, high in ranges:
            touching += lefts[max(low, reached) : high]
            reached = max(reached, high)
        return touching


def shifts(recipe: Recipe) -> Iterator[tuple[int, int]]:
    """How far the views lie from their places in each step, without end: the same always, or drawn from the seed."""
    rng = random.Random(recipe.seed)
    while True:
        if recipe.shift_views:
            yield rng.randrange(recipe.view_stride), rng.randrange(recipe.view_stride)
        else:
            yield 0, 0


def tiles_by_region(blocks: Sequence[Block]) -> Mapping[int, int]:
    """How many views are painted for each region."""
    counts: dict[int, int] = {}
    for block in blocks:
        counts[block.region] = counts.get(block.region, 0) + len(block)
    return counts


def _range(starts: Sequence[int], span: Span, window: int, radius: int) -> tuple[int, int]:
    """Which of the ascending `starts` belong to windows that, made larger by `radius`, meet the span."""
    first, last = span
    return bisect_right(starts, first - radius - window), bisect_left(starts, last + radius)


def _unwrapped(span: Span, length: int) -> list[Span]:
    """A span of a ring as spans of a line."""
    first, last = span
    return [span] if last <= length else [(first, length), (0, last - length)]


def _complement(spans: Sequence[Span], length: int) -> Spans:
    free, reached = [], 0
    for first, last in sorted(spans):
        if first > reached:
            free.append((reached, first))
        reached = max(reached, last)
    return (*free, (reached, length)) if reached < length else tuple(free)
