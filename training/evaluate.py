"""`python -m training.evaluate`: does the exported model paint what it is asked for, and are its panoramas whole?

Prints a Markdown table: attributes as the judge sees them, the distance between drawn and painted pictures (KID over
the judge's features), the spread of painted pictures, and the seam measure at view borders and at the wrap.
"""

import argparse
import itertools
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.catalog import BUILTIN
from engine.loading import load_model
from engine.model import StableDiffusion
from engine.paint import paint
from engine.params import PanoramaParams
from engine.views import plan_views

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


def picture(model: StableDiffusion, asked: Asked, seed: int, width: int) -> np.ndarray:
    """The panorama (512, width, 3) uint8 with the model's own defaults."""
    spec = model.spec
    params = PanoramaParams(
        prompt=asked.prompt,
        width=width,
        height=config.HEIGHT,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        seed=seed,
        scheduler=spec.scheduler,
        view_stride=spec.view_stride,
        circular=asked.circular,
    )
    return paint(model, params).pixels


def seams(pixels: np.ndarray, stride: int, circular: bool) -> tuple[float, float | None]:
    """The worst view border and the wrap: their columns' mean difference over the median of all columns' (1 = none)."""
    wide = np.concatenate([pixels, pixels[:, :1]], 1).astype(np.float32) if circular else pixels.astype(np.float32)
    steps = np.abs(np.diff(wide, axis=1)).mean((0, 2))
    usual = float(np.median(steps))
    cells = pixels.shape[1] // config.FACTOR
    views = plan_views(config.VIEW, cells, config.VIEW, stride, circular=circular)
    borders = {edge * config.FACTOR for view in views for edge in (view.left, view.right) if 0 < edge < cells}
    # One column may hold a tower's edge; a seam is a border that stands out in every picture, so borders are averaged.
    border = float(np.mean([steps[edge - 1] for edge in borders])) / usual if borders else 1.0
    return border, float(steps[-1]) / usual if circular else None


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


def report(asked: list[Asked], codes: list[Tensor], found: list[tuple[float, float | None]], judge: Judge) -> str:
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
    rows.append(f"| seam at view borders (1 = none), median | {np.median([border for border, _ in found]):.2f} |")
    wraps = [wrap for _, wrap in found if wrap is not None]
    rows.append(f"| seam at the wrap of circular ones, median | {np.median(wraps):.2f} |")
    return "\n".join(rows)


def main() -> None:
    """Paints, judges, prints."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--width", type=int, default=2048, help="px of a panorama")
    parser.add_argument("--keep", type=Path, help="folder for the pictures")
    options = parser.parse_args()
    model = load_model(BUILTIN["demo"], device="cuda" if torch.cuda.is_available() else "cpu")
    fitted, judge, asked = code.load(), load(), requests(options.count)
    codes, found, start = [], [], time.perf_counter()
    for seed, want in enumerate(asked):
        pixels = picture(model, want, seed, options.width)
        codes.append(encoded(pixels, fitted))
        found.append(seams(pixels, model.spec.view_stride, want.circular))
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(options.keep / f"{seed:03d}-{want.biome}-{want.time}-{want.weather}.png")
    print(report(asked, codes, found, judge))
    print(f"\n{len(asked)} panoramas, {(time.perf_counter() - start) / len(asked):.1f} s each")


if __name__ == "__main__":
    main()
