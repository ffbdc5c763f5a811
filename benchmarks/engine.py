"""`python -m benchmarks.engine`: the article's loop, diffusers' panorama pipeline and this engine, side by side.

All paint the same request with the same weights, in turn, several rounds; the table has medians. What is not ours has a
process of its own, so that nothing we set for a process serves it. Without a GPU the demo model is painted; with one,
Stable Diffusion 1.5 and 2.1 as architectures with random weights, which serve for speed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.architectures import random_stable_diffusion
from benchmarks.contest import Contestant, Row, ours, peers, synchronise
from engine import loading
from engine.families.stable_diffusion import StableDiffusion
from engine.paint import paint, to_pixels
from engine.picture import encode_png
from engine.speed.warmup import call_network
from recipe.fields import Recipe
from recipe.models import BUILTIN
from recipe.presets import PRESETS

PROMPT = "mountains in the morning, a lake, clear sky"


def milliseconds(call: Callable[[], object], model: StableDiffusion, times: int = 9) -> float:
    """Median, waited for, after two that are not counted."""
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
    """How fast the UNet is in calls of several sizes, counting the operations of a sample as diffusers computes it."""
    config = model.unet.config
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        UNet2DConditionModel.from_config(config)(
            torch.zeros(1, model.latent_channels, *[model.facts.window] * 2),
            torch.tensor(500),
            encoder_hidden_states=torch.zeros(1, 77, config.cross_attention_dim),
        )
    gemm, lines = gemm_rate(model), []
    for views in sorted({1, max(size // 2, 1), size}):
        taken = milliseconds(lambda views=views: call_network(model, views, guided=True), model)  # type: ignore[misc]
        rate = counted.get_total_flops() * 2 * views / taken * 1000
        lines.append(f"{views} views {taken:.1f} ms, {rate / 1e9:.0f} GFLOP/s, {rate / gemm:.0%}")
    return f"UNet in {model.dtype}, share of a GEMM's {gemm / 1e9:.0f} GFLOP/s: " + "; ".join(lines)


def table(rows: list[Row]) -> str:
    """Markdown; the first line's time is the measure of the others."""
    lines = ["| median | s | ms a step | article's / this | text, s | UNet, s | VAE, s | peak MiB |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        told = [f"{row.phases[name]:.2f}" if row.phases else "" for name in ("encode", "denoise", "decode")]
        peak = "" if row.peak is None else f"{row.peak:.0f}"
        ratio = f"{rows[0].whole / row.whole:.2f}"
        lines.append(f"| {' | '.join([row.name, f'{row.whole:.2f}', f'{1000 * row.step:.0f}', ratio, *told, peak])} |")
    return "\n".join(lines)


def apart(model: StableDiffusion, exact: Recipe) -> str:
    """What a picture takes after its last step."""
    rows, columns = exact.height // model.facts.latent_factor, exact.width // model.facts.latent_factor
    latents = torch.randn(1, model.latent_channels, rows, columns, device=model.device)
    with torch.inference_mode():
        decode = milliseconds(lambda: model.decode(latents), model)
        decoded = model.decode(latents)
        host = milliseconds(lambda: to_pixels(decoded), model)
    draft = replace(exact, **PRESETS["draft"].values(model.facts))
    pixels = paint(model.uncompiled(), replace(draft, num_inference_steps=3)).pixels
    png = milliseconds(lambda: encode_png(pixels, exact, model="demo", revision=""), model)
    size = f"{exact.height}x{exact.width}"
    return f"Of {size}: VAE {decode:.0f} ms, pixels to the host {host:.1f} ms, PNG {png:.0f} ms"


def take_part(connection: Connection, side: str, name: str, width: int, options: argparse.Namespace) -> None:
    """A process: one side's contestants, measured once a message, and then their rows and what is told apart."""
    device, accelerated = loading.default_device(), side == "ours"
    models = {dtype: make(name, device, dtype, accelerated=accelerated) for dtype in options.dtypes}
    exact = request(next(iter(models.values())), width, options.steps)
    found: list[Contestant] = []
    for dtype, model in models.items():
        if side == "peers":
            found += peers(model, dtype, exact, options.peer_steps or options.steps)
        else:
            best = dtype == options.dtypes[-1]
            compiled = best and options.compile
            found += ours(model, dtype, exact, options.view_batch_size, compiled=compiled, presets=best)
    for one in found:
        one.once()  # what is loaded or chosen on a first call
    connection.send("ready")
    while connection.recv():
        for one in found:
            one.measure()
            print(f"{one.seconds[-1]:8.2f} s, {one.name}", file=sys.stderr, flush=True)
        connection.send("measured")
    told = []
    if side == "ours":
        ready = found[-1].model
        told = [unet_rates(ready, options.view_batch_size), apart(ready, exact)]
    connection.send(([one.row(memory=options.memory) for one in found], told))


def request(model: StableDiffusion, width: int, steps: int) -> Recipe:
    """What all paint."""
    return Recipe(
        prompt=PROMPT,
        width=width,
        height=model.facts.window_px,
        guidance_scale=model.spec.guidance_scale,
        num_inference_steps=steps,
        seed=1,
    )


def compare(name: str, width: int, options: argparse.Namespace) -> None:
    """One model at one width."""
    spawn, sides = multiprocessing.get_context("spawn"), []
    for side in ("peers", "ours"):
        connection, theirs = spawn.Pipe()
        process = spawn.Process(target=take_part, args=[theirs, side, name, width, options], daemon=True)
        process.start()
        theirs.close()
        connection.recv()  # ready: one after the other, so that none is disturbed
        sides.append((connection, process))
    for _ in range(options.rounds):
        for connection, _process in sides:
            connection.send(True)
            connection.recv()
    rows, told = [], []
    for connection, process in sides:
        connection.send(False)
        of_side, told_of_side = connection.recv()
        process.join()
        rows += of_side
        told += told_of_side
    print(f"\n{name}, {width} px wide, {options.steps} steps, {options.rounds} rounds\n\n{table(rows)}\n")
    print("\n".join(told), flush=True)


def main() -> None:
    """The command line."""
    on_gpu = loading.default_device() == "cuda"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--peer-steps", type=int, help="of what is slow; the rest of its time is reckoned from these")
    parser.add_argument("--widths", type=int, nargs="+", default=[2048, 4096] if on_gpu else [2048], help="px")
    parser.add_argument("--models", nargs="+", default=["1.5", "2.1"] if on_gpu else ["demo"])
    parser.add_argument("--dtypes", nargs="+", default=["float16", "bfloat16"] if on_gpu else ["float32", "bfloat16"])
    parser.add_argument("--view-batch-size", type=int, default=16)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    told = torch.cuda.get_device_name() if on_gpu else f"{platform.processor() or platform.machine()}"
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {told}, {torch.get_num_threads()} threads")
    for name in options.models:
        for width in options.widths:
            compare(name, width, options)


def make(name: str, device: str, dtype: str, *, accelerated: bool) -> StableDiffusion:
    """The demo model with its weights, another model's architecture with random weights."""
    if name == "demo":
        return loading.load_model(BUILTIN[name], device=device, dtype=dtype, accelerated=accelerated)
    return random_stable_diffusion(name, device, dtype, accelerated=accelerated)


if __name__ == "__main__":
    main()
