"""Land painted as layers below ridgelines, each nearer one darker and clearer (atmospheric perspective)."""

from collections.abc import Callable

import numpy as np

from . import noise
from .attributes import Scene
from .palettes import Palette, mix, rgb

Array = np.ndarray
Shade = Callable[[Array, int], Array]  # (depth below the ridge in canvas heights, first row) -> colour, broadcastable
Lighting = Callable[[Array], Array]  # depth below the ridge in canvas heights -> light in 0..1

SNOW = rgb(0.96, 0.98, 1.0)


def snow(palette: Palette, lit: float | Array) -> Array:
    """Snow's colour, bluish in the shadow (`lit` = 0); it throws back more light than the palette's own tint has."""
    bright = 1.0 - (1.0 - palette.light) * 0.72
    return SNOW * mix(palette.shade * rgb(0.95, 1.05, 1.2), bright, lit)


def paint_below(canvas: Array, ridge: Array, shade: Shade) -> None:
    """Fills the canvas below `ridge` (width,), given in rows, with an antialiased edge."""
    height = canvas.shape[0]
    first = int(np.clip(ridge.min() - 1, 0, height - 1))
    rows = np.arange(first, height, dtype=np.float32)[:, None] + 0.5
    depth = rows - ridge[None]
    alpha = np.clip(depth + 0.5, 0.0, 1.0)[..., None]
    canvas[first:] += alpha * (shade(np.maximum(depth, 0) / height, first) - canvas[first:])


def flat(colour: Array) -> Shade:
    """`colour` at every depth."""
    return lambda depth, first: colour


def fade(colour: Array, palette: Palette, near: float, foggy: bool) -> Array:
    """`colour` seen through the air; `near` runs from 0 at the farthest layer to 1 at the nearest."""
    haze = (0.82 if not foggy else 0.96) * (1 - near) ** (1.2 if not foggy else 0.75)
    return mix(colour, palette.haze, haze)


def mist(colour: Array, depth: Array, palette: Palette, amount: float) -> Array:
    """Mist gathering at the foot of a layer, so that the next ridge stands out against it."""
    return mix(colour, palette.haze, (amount * noise.smoothstep(depth, 0.02, 0.26))[..., None])


def mountains(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """Jagged ranges with lit and shaded faces and snow on the high parts."""
    height, width, _ = canvas.shape
    foggy, layers = scene.weather == "foggy", int(rng.integers(3, 5))
    rock = mix(rgb(0.34, 0.31, 0.32), rgb(0.42, 0.40, 0.46), rng.random())
    side = 1.0 if rng.random() < 0.5 else -1.0
    for layer in range(layers):
        near = (layer + 0.6) / layers
        tall = rng.uniform(0.20, 0.27) * (1.0 - 0.45 * near)
        base = horizon - 0.02 - 0.10 * (1 - near)
        shape = noise.jagged(rng, width, height * (0.55 - 0.2 * near))
        ridge = (base - tall * (0.62 + 0.55 * shape)) * height
        snowline = 0.5 if scene.weather == "snowy" else rng.uniform(0.03, 0.13) * (1 - 0.6 * near)
        faces = _faces(rng, width, height, side)

        def shade(
            depth: Array,
            first: int,
            near: float = near,
            ridge: Array = ridge,
            snowline: float = snowline,
            faces: Lighting = faces,
        ) -> Array:
            lit = faces(depth)
            row = depth + (ridge - ridge.min())[None] / height  # height below the highest peak
            ground = mix(rock * palette.shade, rock * palette.light * 1.15, lit[..., None])
            white = snow(palette, 0.25 + 0.75 * lit[..., None])
            covered = noise.smoothstep(snowline + 0.10 * (lit - 0.5) - row * 0.55 - depth * 0.35, -0.02, 0.03)
            colour = mix(ground, white, covered[..., None])
            return mist(fade(colour, palette, near, foggy), depth, palette, 0.55 if not foggy else 0.9)

        paint_below(canvas, ridge, shade)


def _faces(rng: np.random.Generator, width: int, height: int, side: float) -> Lighting:
    """How much light each point of a mountain's face gets, as a function of the depth below its ridge.

    Two families of spurs descend to the left and to the right; whichever is higher at a point decides which way the
    rock faces there.
    """
    left = noise.jagged(rng, width * 2, height * 0.22, 4)
    right = noise.jagged(rng, width * 2, height * 0.22, 4)

    def lit(depth: Array) -> Array:
        x = np.arange(depth.shape[1], dtype=np.float32)[None] + width / 2
        shift = depth * height * 0.75
        xs = np.arange(width * 2)
        difference = np.interp(x + shift, xs, left) - np.interp(x - shift, xs, right)
        return noise.smoothstep(side * difference.astype(np.float32), -0.35, 0.35)

    return lit


def hills(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """Rolling meadows, green to golden, with lit crests and hedges of round trees."""
    height, width, _ = canvas.shape
    foggy, snowy, layers = scene.weather == "foggy", scene.weather == "snowy", int(rng.integers(4, 6))
    green = mix(rgb(0.30, 0.52, 0.16), rgb(0.50, 0.58, 0.20), rng.random())
    for layer in range(layers):
        near = (layer + 0.5) / layers
        base = horizon - 0.05 + 0.36 * near**1.5
        shape = noise.line(rng, width, height * (0.45 + 0.5 * near), 3, 0.35)
        ridge = (base - (0.045 + 0.03 * near) * shape) * height
        grass = mix(green, rgb(0.22, 0.40, 0.14), rng.uniform(0, 0.8))
        if layer and rng.random() < 0.85:
            _copses(canvas, ridge, palette, rng, near, foggy, snowy)
        soft = noise.fractal(rng, (height, width), (height * 0.05, height * 0.4), 3)

        def shade(depth: Array, first: int, near: float = near, grass: Array = grass, soft: Array = soft) -> Array:
            lit = np.clip(1.0 - depth * 3.2 + 0.16 * soft[first:], 0.0, 1.0)
            tint = mix(palette.shade, palette.light, lit[..., None])
            colour = snow(palette, 0.1 + 0.9 * lit[..., None]) if snowy else grass * tint
            return mist(fade(colour, palette, near, foggy), depth, palette, 0.15 if not foggy else 0.6)

        paint_below(canvas, ridge, shade)


def _copses(
    canvas: Array, ridge: Array, palette: Palette, rng: np.random.Generator, near: float, foggy: bool, snowy: bool
) -> None:
    """Groups of round trees standing on a ridge, drawn as bumps of its outline."""
    height, width, _ = canvas.shape
    outline = ridge + 4.0
    x = np.arange(width, dtype=np.float32)
    for _ in range(int(rng.integers(5, 12))):
        centre = rng.uniform(0, width)
        for _ in range(int(rng.integers(1, 7))):
            radius = rng.uniform(0.010, 0.020) * height * (0.5 + near)
            middle = centre + rng.normal(0, 2.0) * radius
            low, high = int(max(0, middle - radius)), int(min(width, middle + radius + 1))
            if low >= high:
                continue
            bump = np.sqrt(np.clip(radius**2 - (x[low:high] - middle) ** 2, 0, None))
            outline[low:high] = np.minimum(outline[low:high], ridge[low:high] - 1.15 * bump - 0.3 * radius * (bump > 0))
    leaf = mix(rgb(0.12, 0.26, 0.10), SNOW, 0.35 if snowy else 0.0)
    colour = fade(leaf * mix(palette.shade, palette.light, 0.45), palette, near, foggy)
    paint_below(canvas, outline, flat(colour))


def desert(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """Dunes: smooth crests with a lit windward side, a shaded slip face and faint ripples; far mesas now and then."""
    height, width, _ = canvas.shape
    foggy, layers = scene.weather == "foggy", int(rng.integers(4, 6))
    sand = mix(rgb(0.93, 0.70, 0.42), rgb(0.88, 0.58, 0.36), rng.random())
    side = 1.0 if rng.random() < 0.5 else -1.0
    if rng.random() < 0.5:
        _mesas(canvas, palette, rng, horizon, foggy)
    for layer in range(layers):
        near = (layer + 0.7) / layers
        base = horizon - 0.01 + 0.34 * near**1.6
        shape = noise.line(rng, width, height * (0.55 + 0.7 * near), 2, 0.3)
        crest = (base - (0.045 + 0.055 * near) * np.abs(shape) * 1.2 + 0.03) * height
        # The slip face hangs from the crest: its edge moves sideways with depth.
        slope = np.gradient(crest) * side
        extended = np.concatenate([np.full(width, slope[0]), slope, np.full(width, slope[-1])])

        def shade(depth: Array, first: int, near: float = near, extended: Array = extended) -> Array:
            x = np.arange(width, dtype=np.float32)[None] + width
            where = np.clip(x - side * depth * height * 1.5, 0, 3 * width - 1).astype(int)
            lit = noise.smoothstep(extended[where], -0.10, 0.06)
            lit = lit * (1 - 0.45 * np.clip(depth * 2.0, 0, 1)) + 0.18 * noise.smoothstep(depth, 0.02, 0.3)
            colour = mix(sand * palette.shade, sand * palette.light, np.clip(lit, 0, 1)[..., None])
            return mist(fade(colour, palette, near, foggy), depth, palette, 0.08 if not foggy else 0.55)

        paint_below(canvas, crest, shade)


def _mesas(canvas: Array, palette: Palette, rng: np.random.Generator, horizon: float, foggy: bool) -> None:
    """Flat-topped rocks on the horizon."""
    height, width, _ = canvas.shape
    ridge = np.full(width, (horizon + 0.01) * height, np.float32)
    x = np.arange(width, dtype=np.float32)
    for _ in range(int(rng.integers(3, 8))):
        middle, half = rng.uniform(0, width), rng.uniform(0.05, 0.2) * height
        top = (horizon - rng.uniform(0.05, 0.13)) * height
        ridge = np.minimum(ridge, np.maximum(top, top + (np.abs(x - middle) - half) * 2.2))
    ridge += noise.line(rng, width, height * 0.02, 2) * 1.2
    rock = rgb(0.62, 0.34, 0.24)
    colour = fade(rock * mix(palette.shade, palette.light, 0.6), palette, 0.35, foggy)
    paint_below(canvas, ridge, lambda depth, first: mist(colour, depth, palette, 0.5))
