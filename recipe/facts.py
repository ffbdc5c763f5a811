"""What a model's own configuration files say of it: enough to judge a request without loading a weight."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from recipe.errors import ModelError


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Sizes of a model.

    `window` is the native view in latent cells (UNet `sample_size`), `latent_factor` the pixels a latent cell stands
    for along each axis (2 ** (VAE levels - 1)).
    """

    window: int = 64
    latent_factor: int = 8

    @property
    def window_px(self) -> int:
        """Side of one view in pixels: the smallest canvas along either axis."""
        return self.window * self.latent_factor


def read_facts(folder: Path) -> ModelFacts:
    """From `unet/config.json` and `vae/config.json`.

    Raises:
        ModelError: when the files are missing or say something else.
    """
    try:
        unet = json.loads((folder / "unet" / "config.json").read_text())
        vae = json.loads((folder / "vae" / "config.json").read_text())
        return ModelFacts(window=int(unet["sample_size"]), latent_factor=2 ** (len(vae["block_out_channels"]) - 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} is no model in diffusers' component layout: {error}") from error
