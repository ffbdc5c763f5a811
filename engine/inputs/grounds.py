"""Plain grounds behind regions, so that a prompt fills its region (MultiDiffusion, arXiv 2302.08113, section 4.2).

In the first steps the network sees of a region's view the region's own part of the canvas, and around it a picture of
one colour with the noise of the step. Views that show nothing but their region then paint the whole object inside it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine.fusion import Fusion, cells_of, extended
from engine.model import Model
from engine.tiles import Tile
from recipe.fields import MAX_STEPS, Recipe

_COLOURS = 8

# From parts of the canvas (n, C, h, w) and their tiles to what the network sees of them
Look = Callable[[torch.Tensor, Sequence[Tile]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Grounds:
    """Latents of pictures of one colour each (colours, C, window, window), and the canvas's first noise, unscaled."""

    recipe: Recipe
    latents: torch.Tensor
    noise: torch.Tensor

    @classmethod
    def of(cls, model: Model, recipe: Recipe, noise: torch.Tensor) -> Grounds | None:
        """Draw colours from the seed. None where `recipe` has no step that needs them."""
        if not recipe.bootstraps_at(0):
            return None
        generator = torch.Generator("cpu").manual_seed(recipe.seed)
        colours = 2 * torch.rand((_COLOURS, 1, 3, 1, 1), generator=generator) - 1
        side = model.facts.window_px
        latents = [model.encode_pixels(colour.expand(1, 3, side, side)) for colour in colours]
        return cls(recipe, torch.cat(latents), extended(noise, noise.shape[-1] + model.facts.window))

    def behind(self, fusion: Fusion, step: int) -> Fusion:
        """The tiles of a step, counted from 0, each region's with one of the grounds; drawn from seed and step."""
        if not self.recipe.bootstraps_at(step):
            return fusion
        rng = random.Random(self.recipe.seed * MAX_STEPS + step)
        tiles = [replace(tile, ground=rng.randrange(_COLOURS)) if tile.region else tile for tile in fusion.tiles]
        return replace(fusion, tiles=tuple(tiles))

    def look(self, scheduler: Any, timestep: torch.Tensor) -> Look:
        """What the network sees at a timestep of `scheduler`."""
        signal, noise = levels(scheduler, timestep)

        def seen(crops: torch.Tensor, tiles: Sequence[Tile]) -> torch.Tensor:
            parts = [
                crop if tile.ground is None else torch.where(tile.weight > 0, crop, self._noised(tile, signal, noise))
                for crop, tile in zip(crops, tiles, strict=True)
            ]
            return torch.stack(parts)

        return seen

    def _noised(self, tile: Tile, signal: float, noise: float) -> torch.Tensor:
        """The ground of a tile (C, window, window), with the noise that its part of the canvas began with."""
        assert tile.ground is not None
        return signal * self.latents[tile.ground] + noise * self.noise[0][cells_of(tile.view)]


def levels(scheduler: Any, timestep: torch.Tensor) -> tuple[float, float]:
    """How much of a picture and of noise is in what the network sees at this call of the scheduler.

    Solvers that step in sigma scale their input to a variance of one, which tells sigma also between their steps, where
    `add_noise` knows none. Single numbers on the CPU: `add_noise` would move the scheduler's tables to the device.
    """
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    scale = float(scheduler.scale_model_input(one, timestep))
    if scale < 1:
        return scale, math.sqrt(1 - scale**2)
    picture, noise = (scheduler.add_noise(*pair, timestep[None]) for pair in ((one, none), (none, one)))
    return float(picture), float(noise)
