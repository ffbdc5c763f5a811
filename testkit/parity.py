"""What the engine is compared with, and how far it is from that."""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel

from engine.families.stable_diffusion import StableDiffusion


def relative_rms(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the difference over that of `expected`, in fp64."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def as_published(model: StableDiffusion) -> StableDiffusion:
    """The model with its UNet as diffusers reads it from the folder, without what the engine does to it."""
    unet = UNet2DConditionModel.from_pretrained(model.spec.path, subfolder="unet", torch_dtype=model.dtype)
    return replace(model, unet=unet.requires_grad_(False))
