"""Model families, a file each. What differs between models is in here; the rest knows `engine.model.Model` alone.

To add a family: a file with a class that has `matches`, `load` and the methods of `Model`, and a line below.
"""

from __future__ import annotations

from engine.families.sdxl import StableDiffusionXL
from engine.families.stable_diffusion import StableDiffusion

FAMILIES: tuple[type[StableDiffusion], ...] = (StableDiffusion, StableDiffusionXL)
