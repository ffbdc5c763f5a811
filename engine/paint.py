"""The whole story: encode, noise, denoise, decode, picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from engine.batching import MicroBatches
from engine.errors import BadPicture
from engine.guidance import guidance_at
from engine.inputs.grounds import Grounds
from engine.inputs.notices import Notice
from engine.inputs.regions import fusion_plan
from engine.inputs.text import Conditioning
from engine.model import Model
from engine.sampler import OnStep, denoise, initial_noise
from engine.schedulers import make_scheduler
from recipe.fields import Recipe

# Called with "encoding", "denoising" and "decoding" as each begins
OnPhase = Callable[[str], None]


@dataclass(slots=True)
class Timings:
    """Seconds a phase took, by the phase's name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 4)


@dataclass(frozen=True, slots=True)
class Panorama:
    """A painted panorama: pixels (height, width, 3) uint8, seconds a phase, and what the user should know."""

    pixels: np.ndarray
    timings: dict[str, float]
    notices: tuple[Notice, ...]


def paint(
    model: Model,
    recipe: Recipe,
    *,
    batches: MicroBatches | None = None,
    on_step: OnStep = lambda *_: None,
    on_phase: OnPhase = lambda _: None,
) -> Panorama:
    """Paint `recipe` with `model`. `batches` (16 tiles unless given) share a network call: only speed depends on them.

    Raises:
        RecipeError: when the sizes or the stride do not suit the model.
        BadPicture: when the model produced NaN, infinity or an empty picture.
        Interrupted: when `on_step` raised it.
        torch.OutOfMemoryError: when not even one view at a time fits.
    """
    recipe.check_fits(model.facts)
    timings = Timings()
    with torch.inference_mode():
        on_phase("encoding")
        with timings.phase("encode"):
            conditioning = model.encode(recipe)
        on_phase("denoising")
        with timings.phase("denoise"):
            latents = paint_latents(
                model, recipe, conditioning=conditioning, batches=batches or MicroBatches(), on_step=on_step
            )
            healthy = bool(latents.isfinite().all())
        if not healthy:
            raise BadPicture(f"the model's latents are not finite numbers in {model.dtype}")
        on_phase("decoding")
        with timings.phase("decode"):
            pixels = to_pixels(model.decode(latents, circular=recipe.circular))
    return Panorama(pixels, timings.seconds, conditioning.notices + _notices(model, recipe))


def _notices(model: Model, recipe: Recipe) -> tuple[Notice, ...]:
    """What the picture does not show although it was asked for."""
    named = {"": recipe} | {f"regions/{index}/": region for index, region in enumerate(recipe.regions)}
    return tuple(
        _unused_notice(f"{path}negative_prompt", model)
        for path, asked in named.items()
        if asked.negative_prompt and (asked.guidance_scale <= 1 or model.facts.embeds_guidance)
    )


def _unused_notice(path: str, model: Model) -> Notice:
    why = (
        "this model gets the guidance scale as an input"
        if model.facts.embeds_guidance
        else "guidance_scale is at most 1"
    )
    return Notice("negative-prompt-unused", f"{path} has no part in the picture: {why}")


def paint_latents(
    model: Model,
    recipe: Recipe,
    *,
    conditioning: Conditioning,
    batches: MicroBatches,
    on_step: OnStep = lambda *_: None,
) -> torch.Tensor:
    """Noise to final latents (1, C, H / f, W / f), fp32: MultiDiffusion itself."""
    factor = model.facts.latent_factor
    height, width = recipe.height // factor, recipe.width // factor
    noise, generator = initial_noise(model.latent_channels, height, width, recipe.seed)
    noise = noise.to(model.device)
    return denoise(
        model,
        noise,
        make_scheduler(recipe.scheduler, model.facts.schedule, recipe.num_inference_steps, seed=recipe.seed),
        fusion_at=fusion_plan(recipe, model.facts, model.device),
        guidance_at=partial(guidance_at, recipe, conditioning, embedded=model.facts.embeds_guidance),
        grounds=Grounds.of(model, recipe, noise),
        batches=batches,
        generator=generator,
        on_step=on_step,
    )


def to_pixels(decoded: torch.Tensor) -> np.ndarray:
    """Decoder output (1, 3, H, W) in [-1, 1] to (H, W, 3) uint8, rounded as diffusers does.

    Raises:
        BadPicture: for NaN or infinity, and for a canvas of one single value (a black picture is no result).
    """
    if not bool(decoded.isfinite().all()):
        raise BadPicture("the decoded picture holds NaN or infinity")
    pixels = _to_host(((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous())
    if pixels.min() == pixels.max():
        raise BadPicture(f"the decoded picture is empty: every value is {pixels.min()}")
    return pixels


def _to_host(picture: torch.Tensor) -> np.ndarray:
    """Copy from a GPU through page-locked memory, at the full rate of the bus; PyTorch reuses that memory."""
    if picture.device.type != "cuda":
        return picture.cpu().numpy()
    host = torch.empty(picture.shape, dtype=picture.dtype, pin_memory=True)
    return host.copy_(picture).numpy()
