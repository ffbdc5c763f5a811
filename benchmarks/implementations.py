"""The implementations that `benchmarks.engine` compares, and how one painting by one of them is timed."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from diffusers import StableDiffusionPanoramaPipeline

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.memory import LiveBytes
from engine.paint import paint, to_pixels
from recipe.fields import Recipe
from testkit.article import article_loop
from testkit.pipelines import pipeline_of

ARTICLE, DIFFUSERS, ENGINE = "the article's loop", "diffusers", "this engine"
ALL_VIEWS = 10_000  # a view_batch_size larger than any canvas has views

OnStep = Callable[..., None]
Run = Callable[[Recipe, OnStep], object]


@dataclass(frozen=True)
class Case:
    """One row of the comparison. `steps` are measured; with `whole_steps` above that, the others are extrapolated."""

    implementation: str
    dtype: str
    view_batch_size: int
    steps: int
    whole_steps: int
    channels_last: bool = True
    compiled: bool = False
    preset: str = ""

    @property
    def name(self) -> str:
        """As the table has it."""
        parts = [self.implementation]
        if self.implementation == DIFFUSERS:
            parts.append(f"view_batch_size {'all' if self.view_batch_size == ALL_VIEWS else self.view_batch_size}")
        if self.implementation == ENGINE:
            parts.append(f"`{self.preset}`" if self.preset else "exact")
        if self.compiled and not self.preset:
            parts.append("compiled")
        if not self.channels_last:
            parts.append("not channels_last")
        return ", ".join([*parts, self.dtype])


@dataclass(frozen=True)
class Row:
    """Seconds a painting, seconds a step, seconds by phase, and MiB beside the weights."""

    name: str
    whole: float
    step: float
    phases: dict[str, float]
    peak: float | None


def row_of(case: Case, paintings: list[dict[str, Any]], peak: float | None) -> Row:
    """Medians over `paintings`. A step's time is the mean, since the steps of a preset differ."""
    steps = [seconds for painting in paintings for seconds in painting["steps"]]
    missing = (case.whole_steps - case.steps) * statistics.median(steps)
    phases = [painting["phases"] for painting in paintings]
    return Row(
        name=case.name,
        whole=statistics.median(painting["seconds"] for painting in paintings) + missing,
        step=statistics.mean(steps),
        phases={name: statistics.median(each.get(name, 0) for each in phases) for name in phases[0]},
        peak=peak,
    )


def synchronise(model: StableDiffusion) -> None:
    """Wait until the model's device has done all that was asked of it."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


@dataclass
class Implementation:
    """A way to paint `recipe` to pixels with `model`. `run` calls its second argument after each step."""

    run: Run
    recipe: Recipe
    model: StableDiffusion

    def painting(self) -> dict[str, Any]:
        """One painting: its seconds, the seconds of each step but the first, and those of the phases if known."""
        ended: list[float] = []

        def on_step(*_: object) -> None:
            synchronise(self.model)
            ended.append(time.perf_counter())

        synchronise(self.model)
        start = time.perf_counter()
        painted = self.run(self.recipe, on_step)
        synchronise(self.model)
        return {
            "seconds": time.perf_counter() - start,
            "steps": [later - earlier for earlier, later in pairwise(ended)],
            "phases": getattr(painted, "timings", {}),
        }

    def one_step(self) -> None:
        """Paint with a single step, unmeasured."""
        self.run(replace(self.recipe, num_inference_steps=1), lambda *_: None)

    def peak(self) -> float | None:
        """MiB beside the weights while painting with a single step; None if the model is compiled for a CPU.

        On a GPU the allocator knows. On a CPU tensors are counted, and compiled code does not show its tensors.
        """
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.one_step()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        if self.model.is_compiled:
            return None
        with LiveBytes() as counted:
            self.one_step()
        return counted.peak / 2**20


def implementation(case: Case, model: StableDiffusion, recipe: Recipe) -> Implementation:
    """The implementation that `case` describes, with a model that is compiled if the case asks for that."""
    recipe = replace(recipe, num_inference_steps=case.steps)
    if case.implementation == ENGINE:
        batches = MicroBatches(case.view_batch_size)
        return Implementation(
            lambda recipe, on_step: paint(model, recipe, batches=batches, on_step=on_step), recipe, model
        )
    if case.implementation == ARTICLE:
        return Implementation(lambda recipe, on_step: _article(model, recipe, on_step), recipe, model)
    form = model if case.channels_last else replace(model, unet=_contiguous(model.unet), vae=_contiguous(model.vae))
    pipeline = pipeline_of(StableDiffusionPanoramaPipeline, form)
    return Implementation(
        lambda recipe, on_step: _diffusers(pipeline, recipe, on_step, case.view_batch_size), recipe, model
    )


def _contiguous(module: Any) -> Any:
    return copy.deepcopy(module).to(memory_format=torch.contiguous_format)


def _article(model: StableDiffusion, recipe: Recipe, on_step: OnStep) -> object:
    latents = article_loop(model, recipe, model.encode(recipe), on_step)
    with torch.inference_mode():
        scaled = latents / model.vae.config.scaling_factor + (model.vae.config.shift_factor or 0.0)
        return to_pixels(model.vae.decode(scaled.to(model.dtype)).sample.float())


def _diffusers(pipeline: Any, recipe: Recipe, on_step: OnStep, view_batch_size: int) -> object:
    def on_step_end(_pipeline: object, _step: int, _timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
        on_step()
        return kwargs

    # Its stride is 8 and cannot be changed. Its decode ignores `shift_factor`, which does not change the time.
    return pipeline(
        recipe.prompt,
        width=recipe.width,
        height=recipe.height,
        num_inference_steps=recipe.num_inference_steps,
        guidance_scale=recipe.guidance_scale,
        view_batch_size=view_batch_size,
        generator=torch.Generator("cpu").manual_seed(recipe.seed),
        callback_on_step_end=on_step_end,
        output_type="np",
    )
