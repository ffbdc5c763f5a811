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

    `scale` says how strongly a prediction is drawn from the negative prompt's to the prompt's. At 1 or less there is no
    guidance, as in diffusers, and one branch is enough. So it is for models with the scale as an input (`embedded`).
    """

    conditioning: Conditioning
    scale: float
    rescale: float = 0.0
    embedded: bool = False

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The negative prompt's, where it has a part, and the prompt's."""
        positive, negative = [self.conditioning.positive], [self.conditioning.negative]
        return (positive,) if self.embedded or self.scale <= 1.0 else (negative, positive)

    def rows(self, crops: torch.Tensor, tiles: Sequence[Tile], canvas: tuple[int, int]) -> Rows:
        """The batch of a network call for `tiles`, whose parts of the canvas are `crops` (n, C, h, w)."""
        return Rows(crops, tiles, self.branches, canvas, self.scale)

    def combine(self, predictions: torch.Tensor) -> torch.Tensor:
        """Predictions (branches, n, C, h, w), fp32, to (n, C, h, w): negative + scale * (positive - negative).

        `rescale` draws each tile's deviation back to that of the prompt's own prediction (arXiv 2305.08891, equations
        15 and 16), which keeps zero-terminal-SNR models from over-exposed pictures.
        """
        if len(predictions) == 1:
            return predictions[0]
        negative, positive = predictions
        guided = negative + self.scale * (positive - negative)
        if self.rescale == 0.0:
            return guided
        every_axis = (1, 2, 3)
        factor = positive.std(every_axis, keepdim=True) / guided.std(every_axis, keepdim=True)
        return guided * (self.rescale * factor + (1 - self.rescale))


def guidance_at(
    recipe: Recipe, conditioning: Conditioning, step: int, total: int, *, embedded: bool = False
) -> Guidance:
    """Of a step, counted from 0: none outside the interval of shares that `recipe` gives (arXiv 2404.07724)."""
    inside = recipe.guidance_start <= step / total < recipe.guidance_end
    return Guidance(conditioning, recipe.guidance_scale if inside else 1.0, recipe.guidance_rescale, embedded)
