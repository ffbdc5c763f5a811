"""The sky: a vertical gradient, the sun's or moon's glow, clouds in perspective, stars, curtains of rain."""

import numpy as np

from . import noise
from .attributes import Scene
from .palettes import Palette, mix

Array = np.ndarray


def gradient(palette: Palette, height: int, width: int, horizon: float) -> Array:
    """Canvas (height, width, 3) filled with the sky's gradient; `horizon` is its row as a fraction of the height."""
    rows = np.clip((np.arange(height) + 0.5) / height / horizon, 0.0, 1.0)
    stops = np.array([0.0, 0.45, 0.82, 1.0])
    column = np.stack([np.interp(rows, stops, palette.sky[:, c]) for c in range(3)], axis=-1)
    return np.repeat(column[:, None].astype(np.float32), width, axis=1)


def paint(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """Paints everything above the land onto `canvas` (height, width, 3), in place."""
    height, width, _ = canvas.shape
    rows = min(height, int(horizon * height) + 2)
    top = canvas[:rows]
    if scene.stars:
        _stars(top, rng, height)
    _glow(top, scene, palette, rng, horizon, height)
    _clouds(top, scene, palette, rng, height)
    if scene.weather == "rainy":
        curtain = noise.smoothstep(noise.field(rng, (rows, width), (height, height * 0.12)), 0.0, 1.8)
        fall = np.linspace(0, 1, rows, dtype=np.float32)[:, None] ** 1.5
        top += (curtain * fall * 0.55)[..., None] * (palette.cloud_dark - top)


def _glow(top: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float, height: int) -> None:
    """The aureole and the disc. A sun near the horizon warms a wide part of the sky; a high one only what is near."""
    rows, width, _ = top.shape
    low = scene.time in ("dawn", "sunset", "dusk")
    y = horizon - (rng.uniform(0.05, 0.16) if low else rng.uniform(0.24, 0.40))
    if scene.light_x is None:
        if not low:
            return
        x, y, strength = rng.uniform(0, width / height), horizon, 0.35
    else:
        x, strength = scene.light_x * width / height, 0.75
    dx = (np.arange(width, dtype=np.float32)[None] + 0.5) / height - x
    dy = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) / height - y
    wide = np.exp(-((dx / (1.3 if low else 0.55)) ** 2) - (dy / (0.22 if low else 0.4)) ** 2)
    top += (wide * strength * (0.5 if low else 0.3))[..., None] * (palette.glow - top)
    if scene.light_x is None:
        return
    distance = np.sqrt(dx**2 + dy**2)
    near = np.exp(-distance / 0.11)
    top += (near * strength)[..., None] * (palette.glow - top)
    radius = 0.045 if scene.time != "noon" else 0.04
    dim = 0.6 if scene.weather == "foggy" else 1.0
    disc = np.clip((radius - distance) * height / 1.5 + 0.5, 0.0, 1.0) * dim
    top += disc[..., None] * (palette.disc - top)


def _stars(top: Array, rng: np.random.Generator, height: int) -> None:
    """Small round stars, thinning towards the horizon; a faint band of the Milky Way behind them."""
    rows, width, _ = top.shape
    band = noise.fractal(rng, (rows, width), (height * 0.3, height * 0.6), 3)
    fade = np.linspace(1, 0, rows, dtype=np.float32)[:, None]
    top += (np.clip(band, 0, 2) * fade * 0.05)[..., None] * np.array([0.8, 0.8, 1.2], np.float32)
    count = int(150 * width / height)
    ys = (rng.random(count) ** 1.4 * (rows - 4)).astype(int) + 2
    xs = rng.integers(2, width - 2, count)
    bright = rng.uniform(0.35, 1.0, count) ** 1.5 * (1 - 0.75 * ys / rows)
    size = height / 512
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            spot = np.exp(-(dx * dx + dy * dy) / (1.5 * size**2))
            np.add.at(top, (ys + dy, xs + dx), (bright * spot)[:, None] * np.array([0.95, 0.97, 1.0], np.float32))
    np.clip(top, 0, 1, out=top)


def _clouds(top: Array, scene: Scene, palette: Palette, rng: np.random.Generator, height: int) -> None:
    """Clouds whose features shrink and flatten towards the horizon, lit from above."""
    cover = {"clear": -1.15, "snowy": -0.2, "foggy": -0.6, "cloudy": 0.25, "rainy": 1.0}[scene.weather]
    cover += rng.uniform(-0.3, 0.3)
    rows, width, _ = top.shape
    scale = rng.uniform(0.10, 0.16) * height
    density = noise.fractal(rng, (rows, width), (scale, scale * rng.uniform(2.6, 4.0)), 5, 0.5)
    # Perspective: far rows are read from a field compressed towards the horizon.
    depth = np.linspace(0, 1, rows) ** 1.6
    density = density[np.clip((depth * (rows - 1)).astype(int)[::1], 0, rows - 1)]
    cloud = noise.smoothstep(density, 0.3 - cover, 1.8 - cover)
    shift = max(2, int(0.022 * height))
    above = np.concatenate([np.repeat(cloud[:1], shift, axis=0), cloud[:-shift]])
    lit = np.clip(0.55 + (cloud - above) * 1.3 - 0.35 * (cloud - 0.5), 0.0, 1.0)
    colour = mix(palette.cloud_dark, palette.cloud_lit, lit[..., None])
    opacity = cloud * (0.92 if scene.weather in ("cloudy", "rainy") else 0.8)
    fade = 1 - 0.55 * np.linspace(0, 1, rows, dtype=np.float32)[:, None] ** 3
    top += (opacity * fade)[..., None] * (colour - top)
