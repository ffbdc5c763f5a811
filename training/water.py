"""Water: the open sea with waves, glitter and headlands, and still lakes that mirror the land."""

import numpy as np

from . import land, noise
from .attributes import Scene
from .palettes import Palette, mix, rgb

Array = np.ndarray


def _ripples(rng: np.random.Generator, rows: int, width: int, height: int) -> Array:
    """Horizontal waves (rows, width) of about unit variance that grow from the far shore to the near edge."""
    field = noise.fractal(rng, (rows * 2, width), (height * 0.035, height * 0.22), 3, 0.6)
    depth = np.linspace(0, 1, rows) ** 0.55  # compresses the far rows
    return field[(depth * (rows * 2 - 1)).astype(int)]


def lake(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, shore: float) -> None:
    """Mirrors what is above the shore line (a fraction of the height) into everything below it, in place."""
    height, width, _ = canvas.shape
    first = int(shore * height)
    rows = height - first
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    waves = _ripples(rng, rows, width, height)
    shift = waves * (0.5 + 6.0 * depth) * height / 512
    # The mirror image is a little compressed, as water seen at a low angle is.
    source = first - 1 - (np.arange(rows)[:, None] * 1.05 + shift)
    mirrored = canvas[np.clip(source, 0, first - 1).astype(int), np.arange(width)[None]]
    soft = (mirrored + np.roll(mirrored, 1, 0) + np.roll(mirrored, 2, 0) + np.roll(mirrored, -1, 0)) / 4
    tint = palette.sky[1] * rgb(0.55, 0.65, 0.75)
    water = mix(soft * 0.93, tint, (0.12 + 0.25 * depth)[..., None])
    water += (0.035 * waves * depth)[..., None] * palette.sky[2]
    canvas[first:] = water


def ocean(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """Waves that reflect the sky, a path of glitter under the sun or the moon, headlands on some horizons."""
    height, width, _ = canvas.shape
    if rng.random() < 0.45:
        _headlands(canvas, palette, rng, horizon, scene.weather == "foggy")
    first = int(horizon * height)
    rows = height - first
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    waves = _ripples(rng, rows, width, height)
    deep = rgb(0.05, 0.30, 0.42) * mix(palette.shade, palette.light, 0.7)
    if scene.time in ("sunset", "dusk", "dawn"):
        deep = mix(deep, mix(palette.sky[0], palette.sky[1], 0.5) * 0.75, 0.7)
    far = mix(palette.sky[3], palette.sky[2], 0.5)
    body = mix(mix(far, deep, 0.35), deep, (depth**0.6)[..., None])
    crest = noise.smoothstep(waves, -0.2, 1.6) * (0.25 + 0.3 * depth)
    trough = noise.smoothstep(-waves, 0.0, 1.8) * (0.1 + 0.35 * depth)
    body = mix(body, mix(palette.sky[2], palette.sky[3], 0.35), crest[..., None])
    body = mix(body, deep * 0.55, trough[..., None])
    foam = noise.smoothstep(waves, 1.7, 2.3) * depth * (0.9 if scene.weather == "rainy" else 0.55)
    body = mix(body, palette.cloud_lit, foam[..., None])
    if scene.weather == "foggy":
        body = mix(body, palette.haze, (0.9 * (1 - depth) ** 1.5)[..., None])
    if scene.light_x is not None:
        x = np.arange(width, dtype=np.float32)[None] / height - scene.light_x * width / height
        path = np.exp(-((x / (0.05 + 0.10 * depth)) ** 2)) * noise.smoothstep(waves, -0.5, 0.9)
        body = mix(body, mix(palette.glow, palette.disc, 0.5), np.clip(path * 0.85, 0, 1)[..., None])
    canvas[first:] = body


def _headlands(canvas: Array, palette: Palette, rng: np.random.Generator, horizon: float, foggy: bool) -> None:
    """Low hazy land on parts of the sea's horizon."""
    height, width, _ = canvas.shape
    for near in (0.3, 0.5):
        outline = noise.line(rng, width, height * 0.6, 5, 0.45) - rng.uniform(0.3, 1.0)
        ridge = (horizon + 0.01 - 0.055 * outline) * height
        colour = land.fade(rgb(0.24, 0.30, 0.26) * mix(palette.shade, palette.light, 0.4), palette, near, foggy)
        land.paint_below(canvas, ridge, land.flat(colour))
