"""Model families, a file each. What differs between models is in here; the rest knows `engine.model.Model` alone.

To add a family: a file with a class that has `load` and the methods of `Model`, a line below, and in `recipe.facts`
what tells it from the others by its configuration files.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.families.sdxl import StableDiffusionXL
from engine.families.stable_diffusion import StableDiffusion
from recipe.configs import SDXL, STABLE_DIFFUSION

FAMILIES: Mapping[str, type[StableDiffusion]] = {STABLE_DIFFUSION: StableDiffusion, SDXL: StableDiffusionXL}
