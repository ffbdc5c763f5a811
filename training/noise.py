"""Band-limited random fields, the raw material of every scene.

A field is a grid of white noise enlarged by bicubic or linear interpolation ("value noise"); octaves of it with falling
amplitude make fractal (fBm) noise. Enlarging a small grid with Pillow costs far less than gradient noise in numpy.
"""

import math

import numpy as np
from PIL import Image

Array = np.ndarray


def field(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> Array:
    """Smooth noise (height, width), about unit variance; `cell` is the size of a feature (y, x) in pixels."""
    height, width = shape
    rows, columns = height / max(cell[0], 1.0), width / max(cell[1], 1.0)
    grid = rng.standard_normal((math.ceil(rows) + 3, math.ceil(columns) + 3)).astype(np.float32)
    image = Image.fromarray(grid).resize(
        (width, height), Image.Resampling.BICUBIC, box=(1.0, 1.0, 1.0 + columns, 1.0 + rows)
    )
    return np.asarray(image) * 1.3  # interpolation averages neighbours; 1.3 brings the deviation back to about one


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float], octaves: int = 4, gain: float = 0.5
) -> Array:
    """Fractal noise (height, width) of about unit variance: each octave has half the cell and `gain` the amplitude."""
    total = np.zeros(shape, np.float32)
    weight, power = 1.0, 0.0
    for octave in range(octaves):
        total += weight * field(rng, shape, (cell[0] / 2**octave, cell[1] / 2**octave))
        power += weight**2
        weight *= gain
    return total / math.sqrt(power)


def line(rng: np.random.Generator, width: int, cell: float, octaves: int = 4, gain: float = 0.5) -> Array:
    """Smooth fractal noise (width,), for hills, dunes and shores."""
    total = np.zeros(width, np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        total += weight * field(rng, (4, width), (4.0, cell))[1]
        power += weight**2
        weight, cell = weight * gain, cell / 2
    return total / math.sqrt(power)


def jagged(rng: np.random.Generator, width: int, cell: float, octaves: int = 5, gain: float = 0.48) -> Array:
    """Piecewise linear fractal noise (width,): straight slopes between sharp peaks, for rocky ridges."""
    total = np.zeros(width, np.float32)
    x = np.arange(width, dtype=np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        # Knots at irregular distances: a regular comb of peaks is what makes drawn mountains look drawn.
        gaps = rng.uniform(0.6, 1.4, int(width / cell) + 6) * cell
        knots = np.cumsum(gaps) - gaps[0] - rng.uniform(0, 2) * cell
        total += weight * np.interp(x, knots, rng.standard_normal(len(knots))).astype(np.float32)
        power += weight**2
        weight, cell = weight * gain, cell / 2
    return total / math.sqrt(power)


def smoothstep(x: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, a cubic between them."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
