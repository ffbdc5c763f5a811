"""The denoising loop: views are predicted and fused, then the scheduler steps once, on the whole canvas."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch

from engine.fusion import Fusion

# (steps done, total steps, canvas (1, C, H, W)); raises engine.errors.Interrupted to end the loop
OnStep = Callable[[int, int, torch.Tensor], None]


class ViewPredictor(Protocol):
    """Guided predictions (n, C, h, w) of crops (n, C, h, w)."""

    def __call__(self, crops: torch.Tensor, *, timestep: torch.Tensor) -> torch.Tensor: ...


def initial_noise(channels: int, height: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Generator]:
    """Standard normal noise (1, C, H, W), fp32, and the generator it came from.

    Drawn on the CPU whatever the device, so that a seed gives one picture everywhere.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn((1, channels, height, width), generator=generator, dtype=torch.float32)
    return noise, generator


def denoise(
    canvas: torch.Tensor,
    fusion: Fusion,
    predict: ViewPredictor,
    scheduler: Any,
    *,
    generator: torch.Generator,
    on_step: OnStep,
) -> torch.Tensor:
    """Take the canvas (1, C, H, W) from noise to latents, fp32.

    Stochastic schedulers draw a step's noise once for the canvas, after fusion: averaging a draw a view would shrink
    its deviation and blur the picture.
    """
    canvas = canvas * scheduler.init_noise_sigma
    step_options = _step_options(scheduler, generator)
    total = len(scheduler.timesteps)
    for index, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(canvas, timestep)
        prediction = fusion(scaled, functools.partial(predict, timestep=timestep))
        canvas = scheduler.step(prediction, timestep, canvas, **step_options, return_dict=False)[0]
        on_step(index + 1, total, canvas)
    return canvas


def _step_options(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    return {"generator": generator} if "generator" in accepted else {}
