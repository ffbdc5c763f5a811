"""MultiDiffusion's step (arXiv 2302.08113, equation 5): every cell becomes the weighted mean of what its tiles say.

Predictions are fused, not latents: with fixed views and a solver that is linear in the prediction both give the same
canvas, and fusing predictions needs one scheduler state for the canvas instead of one a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import torch

from engine.tiles import Tile
from recipe.views import View


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
    """Tiles of one canvas, ready to fuse predictions. Built once a job by `plan_fusion`.

    `extent` is the working width: the canvas, and for a circular one as many of its first columns again as the
    furthest view reaches beyond the edge.
    """

    tiles: tuple[Tile, ...]
    total_weight: torch.Tensor  # (1, 1, H, W)
    extent: int

    def begin(self, canvas: torch.Tensor) -> FusedCanvas:
        """Fuse what tiles of `canvas` (1, C, H, W) will say."""
        source = extended(canvas, self.extent)
        sums = torch.zeros(source.shape, dtype=torch.float32, device=canvas.device)
        return FusedCanvas(source, sums, self.total_weight)


@dataclass(frozen=True, slots=True)
class FusedCanvas:
    """The weighted sum of predictions so far, over the canvas `source` (1, C, H, extent)."""

    source: torch.Tensor
    sums: torch.Tensor
    total_weight: torch.Tensor

    def crops(self, tiles: Sequence[Tile]) -> torch.Tensor:
        """The tiles' parts of the canvas, (n, C, h, w)."""
        return torch.cat([self.source[cells_of(tile.view)] for tile in tiles])

    def add(self, tiles: Sequence[Tile], predictions: torch.Tensor) -> None:
        """Take in predictions (n, C, h, w) of `tiles`."""
        for tile, prediction in zip(tiles, predictions.float(), strict=True):
            self.sums[cells_of(tile.view)] += prediction * tile.weight

    def mean(self) -> torch.Tensor:
        """The fused prediction (1, C, H, W), fp32."""
        return _fold(self.sums, self.total_weight.shape[-1]) / self.total_weight


def plan_fusion(views: Sequence[View], weights: torch.Tensor, height: int, width: int) -> Fusion:
    """Precompute what each cell's weights sum to on a canvas of `height` x `width` cells, on the weights' device."""
    return fusion_of([Tile(view, weights) for view in views], height, width)


def fusion_of(tiles: Sequence[Tile], height: int, width: int) -> Fusion:
    """As `plan_fusion`, of tiles whose weights may differ. Together they must cover the canvas."""
    extent = max(width, *(tile.view.right for tile in tiles))
    total = torch.zeros(1, 1, height, extent, device=tiles[0].weight.device)
    for tile in tiles:
        total[cells_of(tile.view)] += tile.weight
    return Fusion(tuple(tiles), _fold(total, width), extent)


def extended(canvas: torch.Tensor, extent: int) -> torch.Tensor:
    """A canvas (..., H, W) with its first columns repeated behind the last, up to a width of `extent`."""
    beyond = extent - canvas.shape[-1]
    return torch.cat([canvas, canvas[..., :beyond]], dim=-1) if beyond > 0 else canvas


def cells_of(view: View) -> tuple[EllipsisType, slice, slice]:
    """Index of a view's cells in a tensor (..., H, extent)."""
    return (..., slice(view.top, view.bottom), slice(view.left, view.right))


def _fold(extended: torch.Tensor, width: int) -> torch.Tensor:
    """Add the columns beyond `width` back onto the first ones, where a circular canvas continues."""
    beyond = extended.shape[-1] - width
    if beyond <= 0:
        return extended
    folded = extended[..., :width].clone()
    folded[..., :beyond] += extended[..., width:]
    return folded
