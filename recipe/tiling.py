"""Which views are painted for which region. Plain integers: a request's cost is known before anything is queued.

A mask says how much a region counts in each cell: 1 in its box and 0 outside, averaged over a square of
`region_feather`. What the boxes leave over is region 0, the main prompt's, with a mask of the same kind. So a view
touches a region exactly where the view, made larger by the square's radius, meets the region's cells.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.regions import Region
from recipe.views import view_starts

# First row or column, and the one after the last
Span = tuple[int, int]


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
        tops, lefts = view_starts(
            self.height, self.width, self.window, self.stride, circular=self.circular, shift=shift
        )
        if not self.regions:
            return [Block(0, tops, lefts)]
        found = self._uncovered(tops, lefts)
        for number, region in enumerate(self.regions, start=1):
            rows, columns = region.rows(self.height), region.columns(self.width)
            found.append(Block(number, self._touching_rows(tops, rows), self._touching_columns(lefts, [columns])))
        return [block for block in found if len(block)]

    def _uncovered(self, tops: Sequence[int], lefts: Sequence[int]) -> list[Block]:
        """Views that touch what no region covers, a block for rows of views that see the same of it."""
        bands = [(rows, spans) for rows, spans in self._bands() if spans]

        def seen(top: int) -> tuple[int, ...]:
            return tuple(i for i, (rows, _) in enumerate(bands) if self._touching_rows([top], rows))

        blocks = []
        for indices, group in groupby(tops, seen):
            spans = {span for index in indices for span in bands[index][1]}
            blocks.append(Block(0, list(group), self._touching_columns(lefts, sorted(spans))))
        return blocks

    def _bands(self) -> Iterator[tuple[Span, list[Span]]]:
        """Rows between two neighbouring sides of boxes, and the columns in them that no box covers."""
        sides = sorted({0, self.height, *(side for region in self.regions for side in region.rows(self.height))})
        for first, last in pairwise(sides):
            covered = []
            for region in self.regions:
                top, bottom = region.rows(self.height)
                if top <= first and last <= bottom:
                    covered += _unwrapped(region.columns(self.width), self.width)
            yield (first, last), _complement(covered, self.width)

    def _touching_rows(self, tops: Sequence[int], rows: Span) -> Sequence[int]:
        low, high = _range(tops, rows, self.window, self.borders.down)
        return tops[low:high]

    def _touching_columns(self, lefts: Sequence[int], columns: Sequence[Span]) -> Sequence[int]:
        """The views at `lefts`, ascending, that touch one of several spans of columns."""
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


def _complement(spans: Sequence[Span], length: int) -> list[Span]:
    free, reached = [], 0
    for first, last in sorted(spans):
        if first > reached:
            free.append((reached, first))
        reached = max(reached, last)
    return [*free, (reached, length)] if reached < length else free
