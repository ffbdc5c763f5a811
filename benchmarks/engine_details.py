"""Where the engine's time goes, in two sentences: for `benchmarks.engine`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.implementations import synchronise
from engine.families.stable_diffusion import StableDiffusion
from engine.paint import paint, to_pixels
from engine.picture import encode_png
from engine.speed.warmup import call_network
from recipe.fields import Recipe


def milliseconds(call: Callable[[], object], model: StableDiffusion, times: int = 9) -> float:
    """The median of `times` calls on the model's device, after two calls that are not counted."""
    taken = []
    for _ in range(times + 2):
        synchronise(model)
        start = time.perf_counter()
        call()
        synchronise(model)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[2:])


def gemm_rate(model: StableDiffusion) -> float:
    """FLOP/s of a large matrix product in the model's dtype on its device."""
    size = 8192 if model.device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=model.device).to(model.dtype) for _ in range(2))
    return 2 * size**3 / milliseconds(lambda: torch.mm(a, b), model) * 1000


def unet_rates(model: StableDiffusion, size: int) -> str:
    """The UNet's speed in calls of 1, `size` / 2 and `size` views.

    Operations are counted as diffusers' UNet makes them, also where the engine needs fewer.
    """
    config = model.unet.config
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        UNet2DConditionModel.from_config(config)(
            torch.zeros(1, model.latent_channels, *[model.facts.window] * 2),
            torch.tensor(500),
            encoder_hidden_states=torch.zeros(1, 77, config.cross_attention_dim),
        )
    gemm, calls = gemm_rate(model), []
    for views in sorted({1, max(size // 2, 1), size}):
        taken = milliseconds(lambda views=views: call_network(model, views, guided=True), model)  # type: ignore[misc]
        rate = counted.get_total_flops() * 2 * views / taken * 1000
        calls.append(f"{views} views {taken:.1f} ms, {rate / 1e9:.0f} GFLOP/s, {rate / gemm:.0%}")
    return f"UNet in {model.dtype}, share of a GEMM's {gemm / 1e9:.0f} GFLOP/s: " + "; ".join(calls)


def after_last_step(model: StableDiffusion, recipe: Recipe) -> str:
    """How long decoding, copying and compressing a picture of the recipe's size take."""
    rows, columns = recipe.height // model.facts.latent_factor, recipe.width // model.facts.latent_factor
    latents = torch.randn(1, model.latent_channels, rows, columns, device=model.device)
    with torch.inference_mode():
        decode = milliseconds(lambda: model.decode(latents), model)
        decoded = model.decode(latents)
        host = milliseconds(lambda: to_pixels(decoded), model)
    pixels = paint(model.uncompiled(), replace(recipe, num_inference_steps=3)).pixels
    png = milliseconds(lambda: encode_png(pixels, recipe, model="demo", revision=""), model)
    return (
        f"{recipe.height}x{recipe.width} after the last step: "
        f"VAE {decode:.0f} ms, pixels to the host {host:.1f} ms, PNG {png:.0f} ms"
    )
