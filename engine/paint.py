"""The whole story: encode, noise, denoise, decode, picture."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from engine.errors import BadPicture
from engine.fusion import plan_fusion, window_weights
from engine.model import Conditioning, Notice, StableDiffusion
from engine.params import PanoramaParams
from engine.sampler import OnStep, denoise, initial_noise
from engine.schedulers import make_scheduler
from engine.views import plan_views


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
    model: StableDiffusion, params: PanoramaParams, *, view_batch_size: int = 4, on_step: OnStep = lambda *_: None
) -> Panorama:
    """Paint `params` with `model`. `view_batch_size` views share a UNet call and change nothing but speed.

    Raises:
        ParamsError: when the sizes or the stride do not suit the model.
        BadPicture: when the model produced NaN, infinity or an empty picture.
        Interrupted: when `on_step` raised it.
    """
    params.check_fits(model.geometry)
    timings = Timings()
    with torch.inference_mode():
        with timings.phase("encode"):
            conditioning = model.encode(params.prompt, params.negative_prompt)
        with timings.phase("denoise"):
            latents = paint_latents(
                model, params, conditioning=conditioning, view_batch_size=view_batch_size, on_step=on_step
            )
            healthy = bool(latents.isfinite().all())
        if not healthy:
            raise BadPicture(f"the model's latents are not finite numbers in {model.dtype}")
        with timings.phase("decode"):
            pixels = to_pixels(model.decode(latents, circular=params.circular))
    return Panorama(pixels, timings.seconds, conditioning.notices)


def paint_latents(
    model: StableDiffusion, params: PanoramaParams, *, conditioning: Conditioning, view_batch_size: int, on_step: OnStep
) -> torch.Tensor:
    """Noise to final latents (1, C, H / f, W / f), fp32: MultiDiffusion itself."""
    factor, window = model.geometry.latent_factor, model.geometry.window
    height, width = params.height // factor, params.width // factor
    views = plan_views(height, width, window, params.view_stride, circular=params.circular)
    weights = window_weights(params.view_weights, window).to(model.device)
    fusion = plan_fusion(views, weights, height, width, view_batch_size=view_batch_size)
    scheduler = make_scheduler(params.scheduler, model.scheduler_config, params.num_inference_steps)
    noise, generator = initial_noise(model.latent_channels, height, width, params.seed)
    return denoise(
        noise.to(model.device),
        fusion,
        functools.partial(model.predict, conditioning=conditioning, guidance_scale=params.guidance_scale),
        scheduler,
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
    pixels = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    if pixels.min() == pixels.max():
        raise BadPicture(f"the decoded picture is empty: every value is {pixels.min()}")
    return np.ascontiguousarray(pixels)
