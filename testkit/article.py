"""The article's algorithm as published (arXiv 2302.08113, algorithm 1), written down anew: the measure of the others.

It is slow and leaves cells uncovered on purpose: one view a UNet call, the count of views floored, the scheduler
stepping every view, then values over counts. Nothing of this is imported by the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler

from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.text import Conditioning
from engine.sampler import initial_noise
from recipe.fields import Recipe
from recipe.views import View


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


@dataclass(frozen=True)
class Part:
    """A part of the canvas: its mask (H, W), its texts and its guidance. The first is the background's."""

    mask: torch.Tensor
    text: Conditioning
    guidance_scale: float


# From a step, the number of a part and a view to the latents of a plain picture behind the part, or to None
GroundOf = Callable[[int, int, View], torch.Tensor | None]


def article_regions(model: StableDiffusion, params: Recipe, parts: Sequence[Part], ground_of: GroundOf) -> torch.Tensor:
    """Section 4.2: each view is denoised once for each part, and a cell is the mean of what its parts' views say."""
    factor, window = model.facts.latent_factor, model.facts.window
    height, width = params.height // factor, params.width // factor
    noise = initial_noise(model.latent_channels, height, width, params.seed)[0]
    latent = noise
    scheduler = DDIMScheduler.from_config(model.facts.schedule)
    scheduler.set_timesteps(params.num_inference_steps)
    for i, t in enumerate(scheduler.timesteps):
        count, value = torch.zeros_like(latent), torch.zeros_like(latent)
        for view in _every_view(height, width, window, params.view_stride, circular=params.circular):
            rows = torch.arange(view.top, view.bottom)[:, None]
            columns = torch.arange(view.left, view.right)[None] % width
            for number, part in enumerate(parts):
                mask, seen = part.mask[rows, columns], latent[:, :, rows, columns]
                ground = ground_of(i, number, view)
                if ground is not None:
                    noised = scheduler.add_noise(ground[None], noise[:, :, rows, columns], t[None])
                    seen = seen * mask + noised * (1 - mask)
                texts = torch.cat([part.text.negative.states, part.text.positive.states])
                uncond, cond = _predicted(model, seen, t, texts, part.text, view, (height, width)).chunk(2)
                guided = uncond + part.guidance_scale * (cond - uncond)
                denoised = scheduler.step(guided, t, seen)["prev_sample"]
                value[:, :, rows, columns] += denoised * mask
                count[:, :, rows, columns] += mask
        latent = value / count
    return latent


def _every_view(height: int, width: int, window: int, stride: int, *, circular: bool) -> list[View]:
    """The article's views, and one more at an edge that they do not reach."""
    tops = sorted({*range(0, height - window + 1, stride), height - window})
    lefts = range(0, width, stride) if circular else sorted({*range(0, width - window + 1, stride), width - window})
    return [View(top, top + window, left, left + window) for top in tops for left in lefts]


def _predicted(
    model: StableDiffusion,
    seen: torch.Tensor,
    t: torch.Tensor,
    states: torch.Tensor,
    text: Conditioning,
    view: View,
    canvas: tuple[int, int],
) -> torch.Tensor:
    """The UNet's prediction for both texts; SDXL's gets its further inputs."""
    added = None
    if text.positive.pooled is not None and text.negative.pooled is not None:
        sizes = [
            8 * canvas[0],
            8 * canvas[1],
            8 * view.top,
            8 * view.left,
            model.facts.window_px,
            model.facts.window_px,
        ]
        pooled = torch.cat([text.negative.pooled, text.positive.pooled])
        added = {"text_embeds": pooled, "time_ids": torch.tensor([sizes, sizes], dtype=torch.float32)}
    pair = torch.cat([seen, seen])
    predicted: torch.Tensor = model.unet(pair, t, encoder_hidden_states=states, added_cond_kwargs=added)["sample"]
    return predicted
