"""Batches for the UNet: random 64x64 crops of the wide latents, and a fresh caption for each."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from . import config
from .attributes import Scene
from .captions import caption, lights

EMPTY = 0.1  # share of captions left empty, which classifier-free guidance needs


@dataclass(frozen=True)
class Data:
    """Latents (n, 2, 6, 64, 256) fp16, each as drawn and mirrored, and their scenes."""

    latents: Tensor
    scenes: list[Scene]

    def batch(self, count: int, rng: random.Random, width: int = config.VIEW) -> tuple[Tensor, list[str]]:
        """`count` crops (count, 6, 64, width) fp32 and their captions."""
        crops, captions = [], []
        for _ in range(count):
            index, mirrored = rng.randrange(len(self.scenes)), rng.random() < 0.5
            left = rng.randint(0, self.latents.shape[-1] - width)
            crops.append(self.latents[index, int(mirrored), :, :, left : left + width].float())
            captions.append("" if rng.random() < EMPTY else self._caption(index, mirrored, left, width, rng))
        return torch.stack(crops), captions

    def _caption(self, index: int, mirrored: bool, left: int, width: int, rng: random.Random) -> str:
        scene, start, wide = self.scenes[index], left * config.FACTOR, width * config.FACTOR
        if mirrored:
            start = config.WIDTH - start - wide
        return caption(scene, lights(scene, start, wide, config.WIDTH), rng)


def timesteps(count: int, total: int, generator: torch.Generator) -> Tensor:
    """Timesteps (count,) below `total`, uniform, one in each of `count` equal parts: less noise in the loss."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (places * total).long()[torch.randperm(count, generator=generator)]
