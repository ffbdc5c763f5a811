"""The denoising loop: tiles are predicted and fused, then the scheduler steps once, on the whole canvas."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch

from engine.batching import MicroBatches
from engine.fusion import Fusion
from engine.guidance import Guidance
from engine.inputs.grounds import Grounds, Look
from engine.model import Model
from engine.schedulers import solver_steps
from engine.tiles import Tile

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
    guidance_at: Callable[[int], Guidance],
    grounds: Grounds | None = None,
    batches: MicroBatches,
    generator: torch.Generator,
    on_step: OnStep,
) -> torch.Tensor:
    """Take the canvas (1, C, H, W) from noise to latents, fp32.

    `fusion_at` gives the tiles of a step, counted from 0, `guidance_at` its guidance, and `grounds` what the network
    sees around regions. Steps are the solver's: both calls of a solver of second order see the same of each.
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
        fusion = fusion_at(step)
        look: Look = canvas_itself
        if grounds:
            fusion, look = grounds.behind(fusion, step), grounds.look(scheduler, timestep)
        prediction = predict(model, source, on_device[call], fusion, guidance_at(step), batches, look)
        canvas = scheduler.step(prediction, timestep, canvas, **step_options, return_dict=False)[0]
        on_step(call + 1, total, canvas)
    return canvas


def canvas_itself(crops: torch.Tensor, _tiles: Sequence[Tile]) -> torch.Tensor:
    """What the network sees of the canvas, where nothing is put before or behind it: its crops."""
    return crops


def predict(
    model: Model,
    canvas: torch.Tensor,
    timestep: torch.Tensor,
    fusion: Fusion,
    guidance: Guidance,
    batches: MicroBatches,
    look: Look = canvas_itself,
) -> torch.Tensor:
    """The fused, guided prediction (1, C, H, W), fp32, for a canvas of that shape. `timestep` is on its device."""
    fused = fusion.begin(canvas)
    height, width = canvas.shape[-2:]
    for batch in chain.from_iterable(map(batches.split, guidance.groups(fusion.tiles))):
        with batch as tiles:
            rows = guidance.rows(look(fused.crops(tiles), tiles), tiles, (height, width))
            fused.add(tiles, guidance.combine(model.predict(rows, timestep), tiles))
    return fused.mean()


def _step_options(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    return {"generator": generator} if "generator" in accepted else {}
