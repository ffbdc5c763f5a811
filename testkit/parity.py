"""What the engine is compared with, and how far it is from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.loading import load_model
from engine.paint import paint_latents, to_pixels
from recipe.fields import Recipe
from recipe.models import find_model
from recipe.request import resolve
from recipe.schedulers import SCHEDULERS

ONE_VIEW = {"prompt": "hills", "negative_prompt": "people", "width": 128, "height": 128, "seed": 3}


def relative_rms(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the difference over that of `expected`, in fp64."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def as_published(model: StableDiffusion) -> StableDiffusion:
    """The model with its UNet as diffusers reads it from the folder, without what the engine does to it."""
    unet = UNet2DConditionModel.from_pretrained(model.spec.path, subfolder="unet", torch_dtype=model.dtype)
    return replace(model, unet=unet.requires_grad_(False))


def painted_latents(model: StableDiffusion, fields: Mapping[str, Any]) -> torch.Tensor:
    """Latents of one view of a tiny model, in 12 steps unless `fields` say otherwise."""
    return _latents(model, _recipe(model, fields))


def _recipe(model: StableDiffusion, fields: Mapping[str, Any]) -> Recipe:
    return resolve(
        {**ONE_VIEW, "num_inference_steps": 12, "scheduler": "ddim", "guidance_scale": 7.5, **fields}, model.spec
    )


@torch.inference_mode()
def _latents(model: StableDiffusion, recipe: Recipe) -> torch.Tensor:
    conditioning = model.encode(recipe)
    return paint_latents(model, recipe, conditioning=conditioning, batches=MicroBatches(4))


def difference_from_diffusers(folder: Path, fields: Mapping[str, Any]) -> tuple[float, int]:
    """Of one view, painted by the engine and by diffusers' own pipeline as it reads `folder`: the relative RMS of the
    latents, and the largest difference of a pixel's colour, of 255."""
    model = load_model(find_model(str(folder)), device="cpu")
    recipe = _recipe(model, fields)
    kind = StableDiffusionXLPipeline if (folder / "text_encoder_2").exists() else StableDiffusionPipeline
    pipeline: Any = kind.from_pretrained(folder, **({"add_watermarker": False} if "XL" in kind.__name__ else {}))
    pipeline.set_progress_bar_config(disable=True)
    # Where diffusers 0.42 looks for the last normalisation; new versions of transformers do not nest it.
    vars(pipeline.text_encoder).setdefault("text_model", pipeline.text_encoder)
    wanted = SCHEDULERS[recipe.scheduler]
    # A configuration that leaves clip_sample out would have DDIM and DDPM clip latents as if they were pixels.
    config = {key: value for key, value in pipeline.scheduler.config.items() if key != "_use_default_values"}
    config |= {"clip_sample": False}
    pipeline.scheduler = getattr(diffusers, wanted.class_name).from_config(config, **wanted.options)
    theirs = pipeline(
        recipe.prompt,
        negative_prompt=recipe.negative_prompt or None,
        width=recipe.width,
        height=recipe.height,
        num_inference_steps=recipe.num_inference_steps,
        guidance_scale=recipe.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(recipe.seed),
        clip_skip=recipe.clip_skip or None,
        output_type="latent",
    ).images
    ours = _latents(model, recipe)
    return relative_rms(ours, theirs), _pixels_apart(model, pipeline, ours)


@torch.inference_mode()
def _pixels_apart(model: StableDiffusion, pipeline: Any, latents: torch.Tensor) -> int:
    config = pipeline.vae.config
    scaled = latents / config.scaling_factor
    if config.get("latents_mean") is not None:
        mean, deviation = (torch.tensor(config[key]).view(1, 4, 1, 1) for key in ("latents_mean", "latents_std"))
        scaled = latents * deviation / config.scaling_factor + mean
    theirs = to_pixels(pipeline.vae.decode(scaled).sample)
    return int(np.abs(theirs.astype(int) - to_pixels(model.decode(latents))).max())
