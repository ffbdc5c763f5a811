"""Draws wide landscape scenes from their attributes.

`draw(sample(seed), height, width)` is deterministic. Every length is measured in canvas heights, so the same scene can
be drawn at any size, and one horizon runs through the whole width, so that a wide canvas reads as one landscape.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from . import city, land, noise, sky, trees, water
from .attributes import Scene, sample
from .palettes import palette

Array = np.ndarray


def draw(scene: Scene, height: int = 512, width: int = 2048) -> Array:
    """The picture of `scene` as uint8 (height, width, 3)."""
    rng = np.random.default_rng((scene.seed, 2))
    colours = palette(scene.time, scene.weather)
    horizon = float(rng.uniform(0.56, 0.64)) if scene.biome != "ocean" else float(rng.uniform(0.46, 0.58))
    canvas = sky.gradient(colours, height, width, horizon)
    sky.paint(canvas, scene, colours, rng, horizon)
    match scene.biome:
        case "mountains":
            land.mountains(canvas, scene, colours, rng, horizon)
            trees.foreground(canvas, scene, colours, rng, horizon)
        case "hills":
            land.hills(canvas, scene, colours, rng, horizon)
        case "desert":
            land.desert(canvas, scene, colours, rng, horizon)
        case "ocean":
            water.ocean(canvas, scene, colours, rng, horizon)
        case "forest":
            trees.forest(canvas, scene, colours, rng, horizon)
        case "city":
            city.city(canvas, scene, colours, rng, horizon)
    if scene.water:
        shore = {"mountains": 0.05, "hills": 0.14, "forest": 0.13, "city": 0.03}[scene.biome]
        water.lake(canvas, scene, colours, rng, horizon + shore)
    if scene.weather == "foggy":
        _fog(canvas, colours.haze, rng, horizon)
    return (np.clip(canvas, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _fog(canvas: Array, haze: Array, rng: np.random.Generator, horizon: float) -> None:
    """Banks of fog that hang about the horizon."""
    height, width, _ = canvas.shape
    bank = noise.fractal(rng, (height, width), (height * 0.09, height * 0.7), 3)
    rows = (np.arange(height, dtype=np.float32)[:, None] / height - horizon - 0.02) / 0.16
    amount = np.clip(0.42 + 0.28 * bank, 0, 0.85) * np.exp(-(rows**2))
    canvas += amount[..., None] * (haze - canvas)


def contact_sheet(path: Path, seeds: range, columns: int = 2, height: int = 192) -> None:
    """Writes small versions of the scenes of `seeds`, with their attributes, to one PNG."""
    width, rows = height * 4, -(-len(seeds) // columns)
    sheet = Image.new("RGB", (columns * (width + 4), rows * (height + 4)))
    pen = ImageDraw.Draw(sheet)
    for i, seed in enumerate(seeds):
        scene = sample(seed)
        place = (i % columns * (width + 4), i // columns * (height + 4))
        sheet.paste(Image.fromarray(draw(scene)).resize((width, height), Image.Resampling.LANCZOS), place)
        label = f"{seed} {scene.biome} {scene.time} {scene.weather} {'water ' * scene.water}{scene.light or ''}"
        pen.text((place[0] + 4, place[1] + 2), label, fill=(255, 255, 255))
    sheet.save(path)


if __name__ == "__main__":
    contact_sheet(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))
