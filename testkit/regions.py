"""Recipes with regions, for tests of several files."""

from __future__ import annotations

from typing import Any

import torch

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.regions import region_masks
from engine.paint import paint_latents
from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.regions import Region
from recipe.tiling import Canvas

SMALL = ModelFacts(window=16)

HALVES = (
    Region(prompt="mountains", right=0.5, negative_prompt="people"),
    Region(prompt="a city", left=0.5, negative_prompt="fog", guidance_scale=3.0),
)
# Three boxes, two of which overlap, and something left for the main prompt.
OVERLAPPING = (
    Region(prompt="a lake", left=0.1, right=0.55, top=0.3, negative_prompt="people"),
    Region(prompt="a tower", left=0.4, right=0.7, bottom=0.8, guidance_scale=12.0),
    Region(prompt="the sun", left=0.8, right=0.95, bottom=0.25, negative_prompt="rain"),
)
ACROSS = (
    Region(prompt="a wood", left=0.8, right=0.15, guidance_scale=4.0),
    Region(prompt="dunes", left=0.3, right=0.6),
)


def asked(**changes: Any) -> Recipe:
    """A small recipe for views of 16 cells."""
    given = {"prompt": "hills", "width": 320, "height": 144, "num_inference_steps": 4, "seed": 5, "view_stride": 4}
    return Recipe(**{**given, **changes})


def ours(model: StableDiffusion, recipe: Recipe, batch: int = 5) -> torch.Tensor:
    """The latents that the engine paints."""
    with torch.inference_mode():
        return paint_latents(model, recipe, conditioning=model.encode(recipe), batches=MicroBatches(batch))


def masks_of(recipe: Recipe, facts: ModelFacts = SMALL) -> torch.Tensor:
    """The masks of a recipe's regions, the main prompt's first."""
    return region_masks(Canvas.of(recipe, facts))
