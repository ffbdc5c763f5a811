"""The article's algorithm as published (arXiv 2302.08113, algorithm 1), written down anew: the measure of the others.

It is slow and leaves cells uncovered on purpose: one view a UNet call, the count of views floored, the scheduler
stepping every view, then values over counts. Nothing of this is imported by the engine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler

from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.text import Conditioning
from engine.sampler import initial_noise
from recipe.fields import Recipe


def article_views(height: int, width: int, window: int = 64, stride: int = 8) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of every view in latent cells; what the floored count leaves over belongs to none."""
    down, across = (height - window) // stride + 1, (width - window) // stride + 1
    return [
        (i * stride, i * stride + window, j * stride, j * stride + window) for i in range(down) for j in range(across)
    ]


@torch.inference_mode()
def article_loop(
    model: StableDiffusion,
    params: Recipe,
    conditioning: Conditioning,
    on_step: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Final latents (1, C, H / f, W / f) of `params`, whose scheduler, weights and presets are not looked at."""
    factor, window = model.facts.latent_factor, model.facts.window
    height, width = params.height // factor, params.width // factor
    latent = initial_noise(model.latent_channels, height, width, params.seed)[0].to(model.device)
    text_embeds = torch.cat([conditioning.negative.states, conditioning.positive.states])
    scheduler = DDIMScheduler.from_config(model.facts.schedule)
    scheduler.set_timesteps(params.num_inference_steps)
    count, value = torch.zeros_like(latent), torch.zeros_like(latent)
    for t in scheduler.timesteps:
        count.zero_()
        value.zero_()
        for h_start, h_end, w_start, w_end in article_views(height, width, window, params.view_stride):
            view = latent[:, :, h_start:h_end, w_start:w_end]
            pair = torch.cat([view, view]).to(model.dtype)
            predicted = model.unet(pair, t, encoder_hidden_states=text_embeds)["sample"].float()
            uncond, cond = predicted.chunk(2)
            guided = uncond + params.guidance_scale * (cond - uncond)
            value[:, :, h_start:h_end, w_start:w_end] += scheduler.step(guided, t, view)["prev_sample"]
            count[:, :, h_start:h_end, w_start:w_end] += 1
        latent = torch.where(count > 0, value / count, value)
        on_step()
    return latent
