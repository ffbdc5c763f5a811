"""Conifers, drawn as polygons at double size and averaged down: rows of trees, and a forest of such rows."""

import numpy as np
from PIL import Image, ImageDraw

from . import land, noise
from .attributes import Scene
from .palettes import Palette, mix, rgb

Array = np.ndarray


def row(rng: np.random.Generator, ridge: Array, height: int, size: float, gap: float) -> Array:
    """Coverage (height, width) in 0..1 of trees standing on `ridge` (rows); `size` and `gap` are in canvas heights."""
    width = len(ridge)
    mask = Image.new("L", (width * 2, height * 2), 0)
    draw = ImageDraw.Draw(mask)
    x = -size * height
    while x < width + size * height:
        foot = float(ridge[int(np.clip(x, 0, width - 1))]) + 0.02 * height
        tall = size * height * rng.uniform(0.55, 1.25)
        _conifer(draw, rng, x * 2, foot * 2, (tall + 0.02 * height) * 2, tall * rng.uniform(0.17, 0.24) * 2)
        x += gap * height * rng.uniform(0.3, 1.7)
    ground = np.clip(np.arange(height)[:, None] + 1.0 - ridge[None] - 0.012 * height, 0, 1)
    cover = np.asarray(mask.reduce(2), np.float32) / 255.0
    return np.maximum(cover, ground)


def _conifer(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot: float, tall: float, half: float
) -> None:
    """One tree: tiers of drooping branches narrowing to the top."""
    tiers = int(np.clip(tall / 14, 4, 9))
    left, right = [], []
    for tier in range(tiers):
        top, bottom = tier / tiers, (tier + 1) / tiers
        reach = half * bottom**0.85 * rng.uniform(0.85, 1.12)
        inner = half * (top + 0.25 / tiers) * 0.62
        left += [(x - inner, foot - tall * (1 - top)), (x - reach, foot - tall * (1 - bottom - 0.02))]
        right += [(x + inner, foot - tall * (1 - top)), (x + reach * rng.uniform(0.9, 1.1), foot - tall * (1 - bottom))]
    draw.polygon([(x, foot - tall), *left, *right[::-1]], fill=255)


def forest(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """Rows of conifers from a hazy distance to dark trees near by, on soft hills."""
    height, width, _ = canvas.shape
    foggy, snowy = scene.weather == "foggy", scene.weather == "snowy"
    layers = int(rng.integers(4, 6))
    leaf = mix(rgb(0.10, 0.27, 0.13), rgb(0.17, 0.30, 0.10), rng.random())
    reach = 0.16 if scene.water else 0.36  # with a lake in front the nearest trees stand on its far shore
    for layer in range(layers):
        near = (layer + 0.5) / layers
        base = horizon - 0.07 + reach * near**1.3
        ridge = (base + 0.035 * (1 - 0.5 * near) * noise.line(rng, width, height * 0.7, 2, 0.4)) * height
        size = 0.05 + 0.20 * near**1.5
        cover = row(rng, ridge, height, size, 0.012 + size * 0.14)
        stripes = noise.smoothstep(noise.field(rng, (height, width), (height * size * 0.25, height * 0.008)), 0.1, 1.2)
        depth = np.clip((np.arange(height, dtype=np.float32)[:, None] - ridge[None]) / height + size, 0, 1)
        lit = np.clip(0.75 - depth / size * 0.5, 0.15, 1.0) + 0.22 * stripes
        colour = mix(leaf * palette.shade, leaf * palette.light * 1.25, lit[..., None])
        if snowy:
            patches = noise.field(rng, (height, width), (height * size * 0.06, height * size * 0.10))
            frost = noise.smoothstep(0.35 * patches + 1.15 * (1 - depth / size), 0.3, 1.2) * 0.85
            colour = mix(colour, land.snow(palette, 0.7), frost[..., None])
        colour = land.mist(
            land.fade(colour, palette, near, foggy),
            (depth - size * 0.5) * (1.3 - near),
            palette,
            0.4 if not foggy else 0.85,
        )
        canvas += cover[..., None] * (colour - canvas)


def foreground(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """A dark row of conifers on a meadow or under snow: the near ground of a mountain scene."""
    height, width, _ = canvas.shape
    snowy, foggy = scene.weather == "snowy", scene.weather == "foggy"
    low = 0.03 if scene.water else 0.14
    ridge = (horizon + low + 0.02 * noise.line(rng, width, height * 0.8, 2)) * height
    size = rng.uniform(0.05, 0.08) if scene.water else rng.uniform(0.09, 0.14)
    clumps = np.clip(noise.line(rng, width, height * 0.35, 2), -1, 1) * size * height * 0.25
    cover = row(rng, ridge + clumps * 0.6, height, size, size * 0.22)
    leaf = mix(rgb(0.08, 0.20, 0.11), land.SNOW, 0.22 if snowy else 0.0)
    colour = land.fade(leaf * mix(palette.shade, palette.light, 0.5), palette, 0.75, foggy)
    canvas += cover[..., None] * (colour - canvas)
    if scene.water:
        return
    grass = mix(rgb(0.28, 0.42, 0.16), rgb(0.42, 0.44, 0.2), rng.random())
    soft = noise.fractal(rng, (height, width), (height * 0.03, height * 0.3), 3)
    meadow = ridge + (0.05 + 0.01 * noise.line(rng, width, height * 0.5, 2)) * height
    ground = land.snow(palette, 0.75) if snowy else grass * mix(palette.shade, palette.light, 0.6)
    tint = land.fade(ground, palette, 0.9, foggy)
    land.paint_below(canvas, meadow, lambda depth, first: tint * (1.05 - 0.5 * depth + 0.09 * soft[first:])[..., None])
