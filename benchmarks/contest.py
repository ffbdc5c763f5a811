"""Ways to paint one request, and what each of them takes: for `benchmarks.engine`."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from diffusers import StableDiffusionPanoramaPipeline

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.memory import LiveBytes
from engine.paint import paint, to_pixels
from engine.speed.warmup import warm_up
from recipe.fields import Recipe
from recipe.presets import PRESETS
from testkit.article import article_loop
from testkit.pipelines import pipeline_of

Tick = Callable[..., None]


def synchronise(model: StableDiffusion) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


@dataclass(frozen=True)
class Row:
    """What a contestant took: seconds a painting, seconds a step, seconds a phase, and MiB beside the weights."""

    name: str
    whole: float
    step: float
    phases: dict[str, float]
    peak: float | None


@dataclass
class Contestant:
    """One way to paint `params` to pixels; `run` calls its tick after each step.

    Where a whole painting has more `steps` than `params`, the missing ones are counted at the median of those made.
    """

    name: str
    run: Callable[[Recipe, Tick], object]
    params: Recipe
    steps: int
    model: StableDiffusion
    seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    phases: list[dict[str, float]] = field(default_factory=list)

    def measure(self) -> None:
        ended: list[float] = []

        def tick(*_: object) -> None:
            synchronise(self.model)
            ended.append(time.perf_counter())

        synchronise(self.model)
        start = time.perf_counter()
        painted = self.run(self.params, tick)
        synchronise(self.model)
        self.seconds.append(time.perf_counter() - start)
        self.step_seconds += [later - earlier for earlier, later in pairwise(ended)]
        self.phases.append(getattr(painted, "timings", {}))

    def row(self, *, memory: bool) -> Row:
        """Medians, but of steps the mean, since a preset's are not alike."""
        missing = self.steps - self.params.num_inference_steps
        return Row(
            name=self.name,
            whole=statistics.median(self.seconds) + missing * statistics.median(self.step_seconds),
            step=statistics.mean(self.step_seconds),
            phases={name: statistics.median(each.get(name, 0) for each in self.phases) for name in self.phases[0]},
            peak=self.peak() if memory else None,
        )

    def once(self) -> None:
        """A single step, unmeasured."""
        self.run(replace(self.params, num_inference_steps=1), lambda *_: None)

    def peak(self) -> float | None:
        """MiB beside the weights in a run of a single step: by the allocator on a GPU, else by counting tensors."""
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.once()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        if self.model.is_compiled:
            return None  # what was compiled does not tell of its tensors
        with LiveBytes() as counted:
            self.once()
        return counted.peak / 2**20


def peers(model: StableDiffusion, dtype: str, exact: Recipe, steps: int) -> list[Contestant]:
    """The article's loop and diffusers' pipeline, in the engine's memory format and, on a GPU, in their own as well."""
    few = replace(exact, num_inference_steps=steps)

    def contestant(name: str, run: Callable[[Recipe, Tick], object]) -> Contestant:
        return Contestant(f"{name}, {dtype}", run, few, exact.num_inference_steps, model)

    found = [contestant("the article's loop", lambda params, tick: _article(model, params, tick))]
    pipelines = {"": pipeline_of(StableDiffusionPanoramaPipeline, model)}
    if model.device.type == "cuda":
        as_loaded = replace(model, unet=_contiguous(model.unet), vae=_contiguous(model.vae))
        pipelines[", not channels_last"] = pipeline_of(StableDiffusionPanoramaPipeline, as_loaded)
    for form, pipeline in pipelines.items():
        for size in (1, 8, 10_000) if not form else (8,):
            named = "all" if size == 10_000 else str(size)
            run = lambda params, tick, p=pipeline, s=size: _diffusers(p, params, tick, s)  # noqa: E731
            found.append(contestant(f"diffusers, view_batch_size {named}{form}", run))
    return found


def ours(
    model: StableDiffusion, dtype: str, exact: Recipe, size: int, *, compiled: bool, presets: bool
) -> list[Contestant]:
    """This engine in one dtype: exact, exact and compiled, and the presets in the faster of the two."""

    def contestant(name: str, ready: StableDiffusion, params: Recipe) -> Contestant:
        batches = MicroBatches(size)
        run = lambda params, tick: paint(ready, params, batches=batches, on_step=tick)  # noqa: E731
        return Contestant(f"this engine, {name}, {dtype}", run, params, params.num_inference_steps, ready)

    best = warm_up(model, MicroBatches(size), compiled=False)
    found = [contestant("exact", best, exact)]
    if compiled:
        start = time.perf_counter()
        best = warm_up(replace(model, unet=copy.deepcopy(model.unet)), MicroBatches(size), compiled=True)
        print(f"compiled in {time.perf_counter() - start:.0f} s")
        if best.is_compiled:
            found.append(contestant("exact, compiled", best, exact))
    for name, preset in PRESETS.items() if presets else ():
        if name != "reference":
            params = replace(exact, **preset.values(best.facts))
            found.append(contestant(f"`{name}`", best, params))
    return found


def _contiguous(module: Any) -> Any:
    return copy.deepcopy(module).to(memory_format=torch.contiguous_format)


def _article(model: StableDiffusion, params: Recipe, tick: Tick) -> object:
    latents = article_loop(model, params, model.encode(params), tick)
    with torch.inference_mode():
        scaled = latents / model.vae.config.scaling_factor + (model.vae.config.shift_factor or 0.0)
        return to_pixels(model.vae.decode(scaled.to(model.dtype)).sample.float())


def _diffusers(pipeline: Any, params: Recipe, tick: Tick, view_batch_size: int) -> object:
    def on_step_end(_pipeline: object, _step: int, _timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
        tick()
        return kwargs

    # Its stride is 8 and cannot be changed. Its decode does not know `shift_factor`: the cost is the same.
    return pipeline(
        params.prompt,
        width=params.width,
        height=params.height,
        num_inference_steps=params.num_inference_steps,
        guidance_scale=params.guidance_scale,
        view_batch_size=view_batch_size,
        generator=torch.Generator("cpu").manual_seed(params.seed),
        callback_on_step_end=on_step_end,
        output_type="np",
    )
