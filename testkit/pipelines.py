"""diffusers' own pipelines around the components of a model that this engine has loaded."""

from __future__ import annotations

from typing import Any

from diffusers import DDIMScheduler

from engine.families.stable_diffusion import StableDiffusion


def pipeline_of(kind: Any, model: StableDiffusion) -> Any:
    """A pipeline class of Stable Diffusion 1.x and 2.x, with DDIM, in silence."""
    pipeline = kind(
        vae=model.vae,
        text_encoder=model.text.models[0],
        tokenizer=model.text.tokenizers[0],
        unet=model.unet,
        scheduler=DDIMScheduler.from_config(model.facts.schedule),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
