"""Classifier-free guidance (arXiv 2207.12598), in the part of the steps and with the contrast that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.inputs.text import Conditioning
from engine.tiles import Branch, Rows, Tile
from recipe.fields import Recipe


@dataclass(frozen=True, slots=True)
class Guidance:
    """The branches that a step asks the network for, and how its answers become one prediction a tile.

    `scale` says how strongly a prediction is drawn from the negative prompt's to the prompt's; `region_scales` are
    those of the regions. At 1 or less there is no guidance, as in diffusers, and one branch is enough. So it is for
    models with the scale as an input (`embedded`).
    """

    conditioning: Conditioning
    scale: float
    rescale: float = 0.0
    embedded: bool = False
    region_scales: Sequence[float] = ()

    def groups(self, tiles: Sequence[Tile]) -> list[Sequence[Tile]]:
        """The tiles that need the same branches and can share a network call: the guided ones and the others."""
        guided = [self._branches_of(tile) == 2 for tile in tiles]
        if all(guided) or not any(guided):
            return [tiles]
        return [[tile for tile, each in zip(tiles, guided, strict=True) if each is kind] for kind in (True, False)]

    def rows(self, crops: torch.Tensor, tiles: Sequence[Tile], canvas: tuple[int, int]) -> Rows:
        """The batch of a network call for `tiles` of one group, whose parts of the canvas are `crops` (n, C, h, w)."""
        texts = [self.conditioning, *self.conditioning.regions]
        positive: Branch = [text.positive for text in texts]
        negative: Branch = [text.negative for text in texts]
        branches = (negative, positive) if self._branches_of(tiles[0]) == 2 else (positive,)
        return Rows(crops, tiles, branches, canvas, [self._scale_of(tile) for tile in tiles])

    def combine(self, predictions: torch.Tensor, tiles: Sequence[Tile]) -> torch.Tensor:
        """Predictions (branches, n, C, h, w), fp32, to (n, C, h, w): negative + scale * (positive - negative).

        `rescale` draws each tile's deviation back to that of the prompt's own prediction (arXiv 2305.08891, equations
        15 and 16), which keeps zero-terminal-SNR models from over-exposed pictures.
        """
        if len(predictions) == 1:
            return predictions[0]
        negative, positive = predictions
        guided = negative + self._scales_of(tiles, predictions.device) * (positive - negative)
        if self.rescale == 0.0:
            return guided
        every_axis = (1, 2, 3)
        factor = positive.std(every_axis, keepdim=True) / guided.std(every_axis, keepdim=True)
        return guided * (self.rescale * factor + (1 - self.rescale))

    def _scale_of(self, tile: Tile) -> float:
        return self.region_scales[tile.region - 1] if tile.region else self.scale

    def _branches_of(self, tile: Tile) -> int:
        return 1 if self.embedded or self._scale_of(tile) <= 1.0 else 2

    def _scales_of(self, tiles: Sequence[Tile], device: torch.device) -> float | torch.Tensor:
        """One scale where all tiles have the same, else (n, 1, 1, 1)."""
        scales = [self._scale_of(tile) for tile in tiles]
        if len(set(scales)) == 1:
            return scales[0]
        return torch.tensor(scales).view(-1, 1, 1, 1).to(device, non_blocking=True)


def guidance_at(recipe: Recipe, conditioning: Conditioning, step: int, *, embedded: bool = False) -> Guidance:
    """Of a step, counted from 0: none outside the interval of shares that `recipe` gives (arXiv 2404.07724)."""
    inside = recipe.guides_at(step)
    scales = [region.guidance_scale if inside else 1.0 for region in recipe.regions]
    scale = recipe.guidance_scale if inside else 1.0
    return Guidance(conditioning, scale, recipe.guidance_rescale, embedded, scales)
