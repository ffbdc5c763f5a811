"""Classifier-free guidance (arXiv 2207.12598), in the part of the steps and with the contrast that is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from recipe.fields import Recipe


@dataclass(frozen=True, slots=True)
class Guidance:
    """How strongly a prediction is drawn from the negative prompt's to the prompt's."""

    scale: float
    rescale: float = 0.0

    @property
    def active(self) -> bool:
        """A scale of 1 leaves the negative prompt nothing to do, so that half of the work can be left out."""
        return self.scale != 1.0

    def __call__(self, negative: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """Predictions (n, C, h, w), fp32: negative + scale * (positive - negative).

        `rescale` draws each view's deviation back to that of the prompt's own prediction (arXiv 2305.08891, equations
        15 and 16), which keeps zero-terminal-SNR models from over-exposed pictures.
        """
        guided = negative + self.scale * (positive - negative)
        if self.rescale == 0.0:
            return guided
        every_axis = (1, 2, 3)
        factor = positive.std(every_axis, keepdim=True) / guided.std(every_axis, keepdim=True)
        return guided * (self.rescale * factor + (1 - self.rescale))


def guidance_at(params: Recipe, step: int, total: int) -> Guidance:
    """Of a step, counted from 0: none outside the interval of shares that `params` gives (arXiv 2404.07724)."""
    inside = params.guidance_start <= step / total < params.guidance_end
    return Guidance(params.guidance_scale if inside else 1.0, params.guidance_rescale)
