"""The denoising loop: views are predicted and fused, then the scheduler steps once, on the whole canvas."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from engine.batching import MicroBatches
from engine.fusion import Fusion
from engine.views import View

# (steps done, total steps, canvas (1, C, H, W)); raises recipe.errors.Interrupted to end the loop
OnStep = Callable[[int, int, torch.Tensor], None]
# The views of a step, counted from 0
PlanOf = Callable[[int], Fusion]


class ViewPredictor(Protocol):
    """Guided predictions (n, C, h, w) of crops (n, C, h, w) that lie at `views`.

    `timestep` is a scalar on the crops' device, `step` its number of `total`, counted from 0.
    """

    def __call__(
        self, crops: torch.Tensor, views: Sequence[View], *, timestep: torch.Tensor, step: int, total: int
    ) -> torch.Tensor: ...


def initial_noise(channels: int, height: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Generator]:
    """Standard normal noise (1, C, H, W), fp32, and the generator it came from.

    Drawn on the CPU whatever the device, so that a seed gives one picture everywhere.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn((1, channels, height, width), generator=generator, dtype=torch.float32)
    return noise, generator


def denoise(
    canvas: torch.Tensor,
    plan_of: PlanOf,
    predict: ViewPredictor,
    scheduler: Any,
    *,
    batches: MicroBatches,
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
    # The scheduler reads its own from host memory and the UNet its own from the device's: neither waits for the other.
    # Some solvers count in integers and some not; the UNet sees one type, since a compiled one is compiled for each.
    on_device = scheduler.timesteps.to(canvas.device, torch.float32)
    for step, timestep in enumerate(scheduler.timesteps):
        predict_views = functools.partial(predict, timestep=on_device[step], step=step, total=total)
        prediction = plan_of(step)(scheduler.scale_model_input(canvas, timestep), predict_views, batches)
        canvas = scheduler.step(prediction, timestep, canvas, **step_options, return_dict=False)[0]
        on_step(step + 1, total, canvas)
    return canvas


def _step_options(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    return {"generator": generator} if "generator" in accepted else {}
