"""MultiDiffusion's step (arXiv 2302.08113, equation 5): every cell becomes the weighted mean of what its views say.

Predictions are fused, not latents: with fixed views and a solver that is linear in the prediction both give the same
canvas, and fusing predictions needs one scheduler state for the canvas instead of one a view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from engine.batching import MicroBatches
from engine.views import View

# Guided predictions (n, C, window, window) of crops of the same shape, and where these lie
Predict = Callable[[torch.Tensor, Sequence[View]], torch.Tensor]


def window_weights(kind: str, window: int) -> torch.Tensor:
    """Weight of each cell of a view, shape (window, window), fp32, symmetric, never zero.

    `uniform` is the original's plain mean; `hann` and `gaussian` (variance 0.01 of the window squared, as in Mixture of
    Diffusers, arXiv 2302.02412) trust a view's centre more than its rim.
    """
    if kind == "uniform":
        return torch.ones(window, window)
    position = torch.arange(window, dtype=torch.float64) + 0.5
    if kind == "hann":
        profile = torch.sin(torch.pi * position / window) ** 2
    elif kind == "gaussian":
        profile = torch.exp(-((position - window / 2) ** 2) / (2 * 0.01 * window**2))
    else:
        raise ValueError(f"unknown view weights {kind!r}")
    # The product of two tiny rims would vanish beside its neighbours: keep the ratio within what fp32 sums exactly.
    return torch.outer(profile, profile).clamp_min(1e-6).float()


@dataclass(frozen=True, slots=True)
class Fusion:
    """Views of one canvas with their weights, ready to fuse predictions. Built once a job by `plan_fusion`.

    `extent` is the working width: the canvas, and for a circular one as many of its first columns again as the
    furthest view reaches beyond the edge.
    """

    views: tuple[View, ...]
    weights: torch.Tensor  # (window, window)
    total_weight: torch.Tensor  # (1, 1, H, W)
    extent: int

    def __call__(self, canvas: torch.Tensor, predict: Predict, batches: MicroBatches) -> torch.Tensor:
        """Predict every view of `canvas` (1, C, H, W) in micro-batches and return their weighted mean, fp32."""
        width = canvas.shape[-1]
        source = torch.cat([canvas, canvas[..., : self.extent - width]], dim=-1) if self.extent > width else canvas
        fused = torch.zeros(source.shape, dtype=torch.float32, device=canvas.device)

        def fuse(batch: Sequence[View]) -> None:
            crops = torch.cat([source[..., view.top : view.bottom, view.left : view.right] for view in batch])
            predictions = predict(crops, batch).float() * self.weights
            for view, prediction in zip(batch, predictions, strict=True):
                fused[0, :, view.top : view.bottom, view.left : view.right] += prediction

        batches.run(self.views, fuse)
        return _fold(fused, width) / self.total_weight


def plan_fusion(views: Sequence[View], weights: torch.Tensor, height: int, width: int) -> Fusion:
    """Precompute what each cell's weights sum to on a canvas of `height` x `width` cells, on the weights' device."""
    extent = max(width, *(view.right for view in views))
    total = torch.zeros(1, 1, height, extent, device=weights.device)
    for view in views:
        total[..., view.top : view.bottom, view.left : view.right] += weights
    return Fusion(tuple(views), weights, _fold(total, width), extent)


def _fold(extended: torch.Tensor, width: int) -> torch.Tensor:
    """Add the columns beyond `width` back onto the first ones, where a circular canvas continues."""
    beyond = extended.shape[-1] - width
    if beyond <= 0:
        return extended
    folded = extended[..., :width].clone()
    folded[..., :beyond] += extended[..., width:]
    return folded
