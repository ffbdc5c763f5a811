"""The tiles of each step: views, each once for every region that it touches, weighted by the region's mask."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import islice

import torch

from engine.fusion import Fusion, cells_of, extended, fusion_of, window_weights
from engine.tiles import Tile
from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.tiling import Canvas, shifts
from recipe.views import views_at


def fusion_plan(recipe: Recipe, facts: ModelFacts, device: torch.device) -> Callable[[int], Fusion]:
    """The tiles of each step, counted from 0: the same for all, or with `shift_views` moved anew."""
    canvas = Canvas.of(recipe, facts)
    weights = window_weights(recipe.view_weights, facts.window).to(device)
    # Views of a circular canvas reach beyond its last column.
    masks = extended(region_masks(canvas), canvas.width + canvas.window).to(device) if canvas.regions else None

    @lru_cache(maxsize=1)  # solvers of second order ask twice in one step
    def planned(shift: tuple[int, int]) -> Fusion:
        tiles = [
            Tile(view, weights if masks is None else weights * masks[block.region][cells_of(view)], block.region)
            for block in canvas.blocks(shift)
            for view in views_at(block.tops, block.lefts, canvas.window)
        ]
        return fusion_of(tiles, canvas.height, canvas.width)

    drawn = list(islice(shifts(recipe), recipe.num_inference_steps))
    return lambda step: planned(drawn[step])


def region_masks(canvas: Canvas) -> torch.Tensor:
    """How much each region counts in each cell, (1 + regions, height, width), fp32; the first is the main prompt's.

    The main prompt has what no box covers. Where no boxes overlap and all weights are 1, the masks of a cell sum to 1,
    also in soft borders, since all masks are averaged over the same square (`recipe.tiling`).
    """
    masks = torch.zeros(1 + len(canvas.regions), canvas.height, canvas.width, dtype=torch.float64)
    columns = torch.arange(canvas.width)
    for mask, region in zip(masks[1:], canvas.regions, strict=True):
        (top, bottom), (left, right) = region.rows(canvas.height), region.columns(canvas.width)
        inside = ((columns - left) % canvas.width) < right - left
        mask[top:bottom, inside] = 1
    masks[0] = masks[1:].sum(0) == 0
    masks = _averaged(masks, canvas.borders.across, circular=canvas.circular)
    masks = _averaged(masks.mT, canvas.borders.down, circular=False).mT
    weights = torch.tensor([1.0, *(region.weight for region in canvas.regions)], dtype=torch.float64)
    return (masks * weights.view(-1, 1, 1)).float()


def _averaged(values: torch.Tensor, radius: int, *, circular: bool) -> torch.Tensor:
    """Mean of the values up to `radius` places away along the last axis; beyond the ends of a line there are none."""
    length, places = values.shape[-1], torch.arange(values.shape[-1])
    if circular:
        values = torch.cat([values[..., length - radius :], values, values[..., :radius]], -1)
        first, last = places, places + 2 * radius + 1
    else:
        first, last = (places - radius).clamp_min(0), (places + radius + 1).clamp_max(length)
    # Differences of sums of zeros and ones are exact: where nothing of a region is near, its mask is 0.
    sums = torch.nn.functional.pad(values.cumsum(-1), (1, 0))
    return (sums[..., last] - sums[..., first]) / (last - first)
