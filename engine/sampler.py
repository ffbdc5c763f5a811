"""The denoising loop: tiles are predicted and fused, then the scheduler steps once, on the whole canvas."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from engine.batching import MicroBatches
from engine.fusion import Fusion
from engine.guidance import Guidance
from engine.model import Model
from engine.schedulers import solver_steps

# (network calls done, all of them, canvas (1, C, H, W)); raises engine.errors.Interrupted to end the loop
OnStep = Callable[[int, int, torch.Tensor], None]


def initial_noise(channels: int, height: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Generator]:
    """Standard normal noise (1, C, H, W), fp32, and the generator it came from.

    Drawn on the CPU whatever the device, so that a seed gives one picture everywhere.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn((1, channels, height, width), generator=generator, dtype=torch.float32)
    return noise, generator


def denoise(
    model: Model,
    canvas: torch.Tensor,
    scheduler: Any,
    *,
    fusion_at: Callable[[int], Fusion],
    guidance_at: Callable[[int, int], Guidance],
    batches: MicroBatches,
    generator: torch.Generator,
    on_step: OnStep,
) -> torch.Tensor:
    """Take the canvas (1, C, H, W) from noise to latents, fp32.

    `fusion_at` gives the tiles of a step, counted from 0, and `guidance_at` the guidance of a step of all steps. Steps
    are the solver's: both calls of a solver of second order see the same tiles and guidance.
    Stochastic schedulers draw a step's noise once for the canvas, after fusion: averaging a draw a view would shrink
    its deviation and blur the picture.
    """
    canvas = canvas * scheduler.init_noise_sigma
    step_options = _step_options(scheduler, generator)
    step_of, total = solver_steps(scheduler), len(scheduler.timesteps)
    # The scheduler reads its own from host memory and the network its own from the device's: neither waits for the
    # other. Some solvers count in integers and some not; the network sees one type, since a compiled one is compiled
    # for each.
    on_device = scheduler.timesteps.to(canvas.device, torch.float32)
    for call, timestep in enumerate(scheduler.timesteps):
        step = step_of[call]
        source = scheduler.scale_model_input(canvas, timestep)
        fusion, guidance = fusion_at(step), guidance_at(step, step_of[-1] + 1)
        prediction = predict(model, source, on_device[call], fusion, guidance, batches)
        canvas = scheduler.step(prediction, timestep, canvas, **step_options, return_dict=False)[0]
        on_step(call + 1, total, canvas)
    return canvas


def predict(
    model: Model,
    canvas: torch.Tensor,
    timestep: torch.Tensor,
    fusion: Fusion,
    guidance: Guidance,
    batches: MicroBatches,
) -> torch.Tensor:
    """The fused, guided prediction (1, C, H, W), fp32, for a canvas of that shape. `timestep` is on its device."""
    fused = fusion.begin(canvas)
    height, width = canvas.shape[-2:]
    for batch in batches.split(fusion.tiles):
        with batch as tiles:
            rows = guidance.rows(fused.crops(tiles), tiles, (height, width))
            fused.add(tiles, guidance.combine(model.predict(rows, timestep)))
    return fused.mean()


def _step_options(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    return {"generator": generator} if "generator" in accepted else {}
