"""`python -m benchmarks.engine`: the article's loop, diffusers' panorama pipeline and this engine, side by side.

All paint the same request with the same weights, in turn, several rounds; the table has medians. Without a GPU the demo
model is painted; with one, Stable Diffusion 1.5 and 2.1 as architectures with random weights, which serve for speed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import StableDiffusionPanoramaPipeline
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.architectures import random_stable_diffusion
from benchmarks.article import article_loop
from benchmarks.peers import pipeline_of
from engine.batching import MicroBatches
from engine.catalog import BUILTIN
from engine.loading import default_device, load_model
from engine.memory import LiveBytes
from engine.model import StableDiffusion
from engine.paint import paint, to_pixels
from engine.params import PanoramaParams
from engine.picture import encode_png
from engine.presets import PRESETS
from engine.warmup import call_unet, warm_up

PROMPT = "mountains in the morning, a lake, clear sky"
COMPILED = "this engine, exact, compiled"


@dataclass
class Contestant:
    """One way to paint a request to pixels."""

    name: str
    run: Callable[[], object]
    steps: int
    model: StableDiffusion
    seconds: list[float] = field(default_factory=list)
    phases: list[dict[str, float]] = field(default_factory=list)

    def measure(self) -> None:
        _synchronise(self.model)
        start = time.perf_counter()
        painted = self.run()
        _synchronise(self.model)
        self.seconds.append(time.perf_counter() - start)
        self.phases.append(getattr(painted, "timings", {}))

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def _synchronise(model: StableDiffusion) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def contestants(
    models: dict[str, StableDiffusion], exact: PanoramaParams, batches: MicroBatches, compiled: bool
) -> list[Contestant]:
    """`models` by dtype. The article's loop and diffusers run in each dtype as well, so that like meets like."""
    found = []
    for dtype, model in models.items():
        found.append(Contestant(f"the article's loop, {dtype}", lambda m=model: _article(m, exact), 0, model))
        pipeline = pipeline_of(StableDiffusionPanoramaPipeline, model)
        for size in (1, 8, 10_000):
            named = "all" if size == 10_000 else str(size)
            run = lambda p=pipeline, s=size: _diffusers(p, exact, s)  # noqa: E731
            found.append(Contestant(f"diffusers, view_batch_size {named}, {dtype}", run, 0, model))
    for dtype, model in models.items():
        run = lambda m=model: paint(m, exact, batches=batches)  # noqa: E731
        found.append(Contestant(f"this engine, exact, {dtype}", run, 0, model))
    best_dtype, best = list(models.items())[-1]
    if compiled:
        shapes = MicroBatches(batches.size, fixed_shapes=True)
        twin = replace(best, unet=_copy(best))
        ready = warm_up(twin, shapes, compiled=True)
        run = lambda: paint(ready, exact, batches=shapes)  # noqa: E731
        found.append(Contestant(f"{COMPILED}, {best_dtype}", run, 0, ready))
    for name, preset in PRESETS.items():
        if name != "reference":
            params = replace(exact, **preset.values(best.geometry))
            run = lambda p=params: paint(best, p, batches=batches)  # noqa: E731
            found.append(Contestant(f"this engine, `{name}`, {best_dtype}", run, params.num_inference_steps, best))
    for one in found:
        one.steps = one.steps or exact.num_inference_steps
    return found


def _copy(model: StableDiffusion) -> Any:
    """A UNet of its own, since compiling is in place."""
    unet = type(model.unet).from_config(model.unet.config)
    unet.load_state_dict(model.unet.state_dict())
    return unet.to(model.device, model.dtype, memory_format=torch.channels_last).requires_grad_(False).eval()


def _article(model: StableDiffusion, params: PanoramaParams) -> object:
    latents = article_loop(model, params, model.encode(params.prompt, params.negative_prompt))
    with torch.inference_mode():
        scaled = latents / model.vae.config.scaling_factor + (model.vae.config.shift_factor or 0.0)
        return to_pixels(model.vae.decode(scaled.to(model.dtype)).sample.float())


def _diffusers(pipeline: Any, params: PanoramaParams, view_batch_size: int) -> object:
    # Its stride is 8 and cannot be changed. Its decode does not know `shift_factor`: the cost is the same.
    return pipeline(
        params.prompt,
        width=params.width,
        height=params.height,
        num_inference_steps=params.num_inference_steps,
        guidance_scale=params.guidance_scale,
        view_batch_size=view_batch_size,
        generator=torch.Generator("cpu").manual_seed(params.seed),
        output_type="np",
    )


def gemm_rate(model: StableDiffusion) -> float:
    """FLOP/s of a large matrix product in the model's dtype on its device."""
    size = 8192 if model.device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=model.device).to(model.dtype) for _ in range(2))
    seconds = []
    for _ in range(8):
        _synchronise(model)
        start = time.perf_counter()
        torch.mm(a, b)
        _synchronise(model)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[2:])


def unet_rate(model: StableDiffusion, views: int) -> tuple[float, float]:
    """FLOP/s of the UNet at `views` a call, and its samples a second."""
    with FlopCounterMode(display=False) as counted:
        call_unet(model, 1, guided=False)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        call_unet(model, views, guided=True)
        seconds.append(time.perf_counter() - start)
    samples = 2 * views / statistics.median(seconds[1:])
    return counted.get_total_flops() * samples, samples


def peak_memory(one: Contestant) -> float:
    """MiB beside the weights, of one more run: by the allocator on a GPU, else by counting tensors."""
    if one.model.device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        one.run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with LiveBytes() as counted:
        one.run()
    return counted.peak / 2**20


def table(found: list[Contestant], memory: dict[str, float]) -> str:
    """Markdown; the first line's time is the measure of the others."""
    rows = ["| median | s | ms a step | article's / this | text, s | UNet, s | VAE, s | peak MiB |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for one in found:
        phases = {
            name: statistics.median(each[name] for each in one.phases)
            for name in ("encode", "denoise", "decode")
            if name in one.phases[0]
        }
        told = [f"{phases[name]:.2f}" if phases else "" for name in ("encode", "denoise", "decode")]
        peak = f"{memory[one.name]:.0f}" if one.name in memory else ""
        per_step = 1000 * (phases.get("denoise") or one.median) / one.steps
        cells = [one.name, f"{one.median:.2f}", f"{per_step:.0f}", f"{found[0].median / one.median:.2f}", *told, peak]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def compare(models: dict[str, StableDiffusion], options: argparse.Namespace, width: int) -> None:
    """One model at one width: rounds, then what is told apart."""
    first, best = next(iter(models.values())), list(models.values())[-1]
    exact = PanoramaParams(
        prompt=PROMPT,
        width=width,
        height=first.geometry.window_px,
        guidance_scale=first.spec.guidance_scale,
        num_inference_steps=options.steps,
        seed=1,
    )
    batches = MicroBatches(options.view_batch_size)
    found = contestants(models, exact, batches, options.compile)
    short = replace(exact, num_inference_steps=1)
    for one in contestants(models, short, batches, compiled=False):
        one.run()  # what is loaded or chosen on a first call
    for _ in range(options.rounds):
        for one in found:
            one.measure()
    memory = {}
    if options.memory:
        shorter = contestants(models, short, batches, compiled=False)
        memory = {one.name: peak_memory(one) for one in shorter}
    print(f"\n{first.spec.name}, {exact.height}x{width}, {options.steps} steps, {options.rounds} rounds\n")
    print(table(found, memory))
    flops, samples = unet_rate(best, options.view_batch_size)
    rate = gemm_rate(best)
    print(f"\nUNet in {best.dtype}: {samples:.1f} samples/s, {flops / 1e9:.0f} GFLOP/s, {flops / rate:.0%} of a GEMM's")
    pixels = paint(best, replace(short, width=4096, **PRESETS["draft"].values(best.geometry)), batches=batches).pixels
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        encode_png(pixels, exact, model="demo", revision="")
        seconds.append(time.perf_counter() - start)
    print(f"PNG of {pixels.shape[0]}x{pixels.shape[1]}: {1000 * statistics.median(seconds):.0f} ms")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--widths", type=int, nargs="+", help="px; default: 2048, with a GPU 4096 as well")
    parser.add_argument("--view-batch-size", type=int, help="default: 8, with a GPU 16")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    device = default_device()
    on_gpu = device == "cuda"
    options.view_batch_size = options.view_batch_size or (16 if on_gpu else 8)
    told = torch.cuda.get_device_name() if on_gpu else f"{platform.processor() or platform.machine()}"
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {told}, {torch.get_num_threads()} threads")
    for name in ("1.5", "2.1") if on_gpu else ("demo",):
        dtypes = ("float16", "bfloat16") if on_gpu else ("float32", "bfloat16")
        make = random_stable_diffusion if on_gpu else _demo
        models = {dtype: make(name, device, dtype) for dtype in dtypes}
        for width in options.widths or ((2048, 4096) if on_gpu else (2048,)):
            compare(models, options, width)


def _demo(name: str, device: str, dtype: str) -> StableDiffusion:
    return load_model(BUILTIN[name], device=device, dtype=dtype)


if __name__ == "__main__":
    main()
