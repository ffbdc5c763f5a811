"""`python -m training.evaluate`: does the exported model paint what it is asked for, and are its panoramas whole?

Prints a Markdown table: attributes as the judge sees them, the distance between drawn and painted pictures (KID over
the judge's features), the spread of painted pictures, and the seam measure at view borders and at the wrap.
"""

import argparse
import itertools
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.families.stable_diffusion import StableDiffusion
from engine.loading import default_device, default_dtype, load_model
from engine.paint import Panorama, paint
from recipe.fields import Recipe
from recipe.models import BUILTIN
from recipe.presets import PRESETS
from recipe.views import plan_views

from . import code, config, latents
from .attributes import BIOMES, SNOWLESS, TIMES, WEATHERS
from .judge import HEADS, Judge, count_lights, load

# Wording that training never used: the order of the parts and the sentences around them are new.
WORDINGS = (
    "{time}, {weather}, {biome}",
    "wide panorama: {biome}. {time}. {weather}",
    "I would like to see {weather} {biome}, and it should be {time}",
    "{biome} {time}, {weather}, highly detailed",
)
WORDS = {
    "biome": {b: b for b in BIOMES},
    "time": {
        "dawn": "dawn",
        "morning": "morning",
        "noon": "noon",
        "sunset": "sunset",
        "dusk": "dusk",
        "night": "night",
    },
    "weather": {"clear": "clear sky", "cloudy": "cloudy", "foggy": "fog", "rainy": "rain", "snowy": "snow"},
}


@dataclass(frozen=True)
class Asked:
    """One panorama to paint, and what should be on it."""

    prompt: str
    biome: str
    time: str
    weather: str
    circular: bool


def requests(count: int) -> list[Asked]:
    """`count` requests that spread evenly over all attributes."""
    rng = random.Random(config.SEED)
    everything = [
        each for each in itertools.product(BIOMES, TIMES, WEATHERS) if not (each[0] in SNOWLESS and each[2] == "snowy")
    ]
    rng.shuffle(everything)
    asked = []
    for index in range(count):
        biome, hour, weather = everything[index % len(everything)]
        words = {"biome": WORDS["biome"][biome], "time": WORDS["time"][hour], "weather": WORDS["weather"][weather]}
        asked.append(Asked(rng.choice(WORDINGS).format(**words), biome, hour, weather, circular=index % 4 == 3))
    return asked


def picture(
    model: StableDiffusion, asked: Asked, seed: int, width: int, changes: Mapping[str, Any]
) -> tuple[Recipe, Panorama]:
    """The panorama of 512 x `width` px with the model's own defaults, but for `changes`."""
    params = Recipe(
        prompt=asked.prompt,
        width=width,
        height=config.HEIGHT,
        seed=seed,
        circular=asked.circular,
        **{**model.spec.defaults, **changes},
    )
    return params, paint(model, params)


@dataclass(frozen=True)
class Seams:
    """How much columns stand out: their difference to the next, over the median of such within 16 columns around.

    `grid` is the mean over edges of latent cells that are no view's border: what the decoder's grid of 8 px comes to.
    """

    borders: float
    grid: float
    wrap: float | None


def seams(pixels: np.ndarray, params: Recipe) -> Seams:
    """Of one panorama."""
    wide = np.concatenate([pixels[:, -17:], pixels, pixels[:, :17]], 1) if params.circular else pixels
    steps = np.abs(np.diff(wide.astype(np.float32), axis=1)).mean((0, 2))
    offset = 17 if params.circular else 0
    cells = pixels.shape[1] // config.FACTOR
    views = plan_views(config.VIEW, cells, config.VIEW, params.view_stride, circular=params.circular)
    borders = {edge for view in views for edge in (view.left, view.right) if 0 < edge < cells}

    def stands_out(edge: int) -> float:
        column = edge * config.FACTOR + offset - 1
        return float(steps[column] / np.median(steps[max(column - 16, 0) : column + 17]))

    grid = np.mean([stands_out(edge) for edge in range(2, cells - 2) if edge not in borders])
    border = np.mean([stands_out(edge) for edge in borders]) if borders else grid
    return Seams(float(border), float(grid), stands_out(0) if params.circular else None)


def encoded(pixels: np.ndarray, fitted: code.Code) -> Tensor:
    """The patch code (1, 6, 64, w) of a picture, as the judge reads it."""
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    return fitted.encode(image)


def kid(drawn: Tensor, painted: Tensor) -> float:
    """Kernel inception distance (arXiv 1801.01401) between features (n, d) and (m, d): polynomial kernel, unbiased."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    n, m = len(drawn), len(painted)
    within = (kernel(drawn, drawn).sum() - kernel(drawn, drawn).diagonal().sum()) / (n * (n - 1))
    painted_within = (kernel(painted, painted).sum() - kernel(painted, painted).diagonal().sum()) / (m * (m - 1))
    return float(within + painted_within - 2 * kernel(drawn, painted).mean())


def report(asked: list[Asked], codes: list[Tensor], found: list[Seams], judge: Judge) -> str:
    """The table."""
    with torch.inference_mode():
        said = [{name: int(logits[0].argmax()) for name, logits in judge(each).items()} for each in codes]
        painted = torch.cat([judge.features(each) for each in codes])
        counts = [count_lights(judge.lights(each)[0]) for each in codes]
        drawn = judge.features(latents.load(latents.SHARD * 3)[0][:, 0].float())
    rows = ["| Measure | Value |", "|---|---|"]
    for name, values in HEADS.items():
        right = [values[one[name]] == getattr(want, name) for one, want in zip(said, asked, strict=True)]
        rows.append(f"| {name} as asked | {np.mean(right):.0%} of {len(right)} |")
    rows.append(f"| at most one sun or moon | {np.mean([count <= 1 for count in counts]):.0%} |")
    half = len(drawn) // 2
    rows.append(f"| KID, drawn to painted | {kid(drawn, painted):.3f} |")
    rows.append(f"| KID, drawn to other drawn | {kid(drawn[:half], drawn[half:]):.3f} |")
    rows.append(
        f"| spread of features, painted over drawn | {float(painted.std(0).mean() / drawn.std(0).mean()):.0%} |"
    )
    wraps = [each.wrap for each in found if each.wrap is not None]
    for name, measures in (
        ("view borders", [each.borders for each in found]),
        ("cell edges that are no view's border", [each.grid for each in found]),
        ("view borders, over those", [each.borders / each.grid for each in found]),
        ("the wrap of circular ones", wraps),
        ("the wrap, over cell edges", [each.wrap / each.grid for each in found if each.wrap is not None]),
    ):
        rows.append(f"| seam at {name} (1 = none), median | {np.median(measures):.2f} |")
    return "\n".join(rows)


def main() -> None:
    """Paints, judges, prints."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--width", type=int, default=2048, help="px of a panorama")
    parser.add_argument("--keep", type=Path, help="folder for the pictures")
    parser.add_argument("--preset", choices=PRESETS, help="default: the model's own settings")
    parser.add_argument("--dtype", default=default_dtype(default_device()), help="default: what a worker would take")
    options = parser.parse_args()
    model = load_model(BUILTIN["demo"], device=default_device(), dtype=options.dtype)
    changes = PRESETS[options.preset].values(model.facts) if options.preset else {}
    fitted, judge, asked = code.load(), load(), requests(options.count)
    codes, found, seconds = [], [], []
    for seed, want in enumerate(asked):
        start = time.perf_counter()
        params, panorama = picture(model, want, seed, options.width, changes)
        seconds.append(time.perf_counter() - start)
        codes.append(encoded(panorama.pixels, fitted))
        found.append(seams(panorama.pixels, params))
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            name = f"{seed:03d}-{want.biome}-{want.time}-{want.weather}.png"
            Image.fromarray(panorama.pixels).save(options.keep / name)
    print(report(asked, codes, found, judge))
    print(f"| seconds a panorama, median | {np.median(seconds):.1f} |")
    how = f"{options.preset or 'own defaults'}, {options.dtype}"
    print(f"\n{len(asked)} panoramas of {config.HEIGHT}x{options.width}, {how}")


if __name__ == "__main__":
    main()
