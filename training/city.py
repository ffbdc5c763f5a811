"""A city skyline: rows of towers with lit windows, the far ones pale in the haze."""

import numpy as np
from PIL import Image, ImageDraw

from . import land
from .attributes import Scene
from .palettes import Palette, mix, rgb

Array = np.ndarray
LAMP = rgb(1.0, 0.80, 0.42)


def city(canvas: Array, scene: Scene, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """Three rows of buildings standing on the horizon's shore."""
    height, width, _ = canvas.shape
    foggy = scene.weather == "foggy"
    foot = horizon + (0.02 if scene.water else 0.16)
    centre = rng.uniform(0, width)
    for layer, near in enumerate((0.25, 0.55, 0.9)):
        walls, faces, windows, roofs = _row(rng, (height, width), foot, near, centre, scene.weather == "snowy")
        wall = mix(rgb(0.62, 0.66, 0.74), rgb(0.70, 0.62, 0.56), rng.random()) * (1.0 - 0.25 * near)
        colour = mix(wall * palette.shade, wall * palette.light, faces[..., None])
        colour = mix(colour, land.snow(palette, 0.8), roofs[..., None] * 0.9)
        glass = mix(colour * 0.6, palette.sky[1], 0.45 if palette.lamps == 0 else 0.12)
        lamps = mix(glass, mix(LAMP, LAMP * 0.55, rng.uniform(0, 0.3)), (palette.lamps > 0) * 1.0)
        lit = windows * (0.35 + 0.65 * near)
        on = (windows > 0.75) if palette.lamps > 0 else np.zeros_like(windows, bool)
        colour = mix(colour, np.where(on[..., None], lamps, glass), lit[..., None])
        colour = land.fade(colour, palette, near, foggy)
        rows = np.arange(height, dtype=np.float32)[:, None] / height
        depth = np.broadcast_to(rows - foot + 0.22, (height, width))
        colour = land.mist(colour, depth, palette, (0.35 if not foggy else 0.9) * (1.1 - near))
        canvas += walls[..., None] * (colour - canvas)
        if palette.lamps > 0.2 and layer < 2:  # the streets' light in the air between the rows
            glow = np.exp(-(((rows - foot) / 0.10) ** 2)) * palette.lamps * 0.30
            canvas += np.broadcast_to(glow, (height, width))[..., None] * (LAMP * 0.8 - canvas)


def _row(
    rng: np.random.Generator, shape: tuple[int, int], foot: float, near: float, centre: float, snowy: bool
) -> tuple[Array, Array, Array, Array]:
    """One row of buildings as four maps (height, width): coverage, light on the face, windows, snow on the roofs.

    A window's value is its brightness: above 0.75 it is lit when there are lamps, below it is plain glass.
    """
    height, width = shape
    images = [Image.new("L", (width * 2, height * 2), 0) for _ in range(4)]
    walls, faces, windows, roofs = draws = [ImageDraw.Draw(image) for image in images]
    bottom = foot * height * 2
    x = -rng.uniform(0, 0.1) * height
    while x < width:
        wide = rng.uniform(0.045, 0.115) * height * (0.65 + 0.5 * near)
        middle = np.exp(-(((x - centre) / height / 0.9) ** 2))  # towers rise towards the centre
        tall = (0.06 + rng.random() ** 2 * 0.20 + 0.14 * middle * rng.random()) * height * (1.35 - 0.55 * near)
        box = [x * 2, bottom - tall * 2, (x + wide) * 2, height * 2]
        walls.rectangle(box, fill=255)
        tone = int(rng.uniform(70, 180))
        faces.rectangle(box, fill=tone)
        split = x + wide * rng.uniform(0.55, 0.8)
        faces.rectangle([split * 2, box[1], box[2], box[3]], fill=int(tone * 0.45))
        _roof(draws, rng, x, wide, box[1], tone, height)
        if snowy:
            roofs.rectangle([box[0], box[1], box[2], box[1] + 0.016 * height], fill=255)
        _windows(windows, rng, box, height, near)
        x += wide * rng.uniform(0.85, 1.5 if near > 0.5 else 1.1)
    maps = [np.asarray(image.reduce(2), np.float32) / 255.0 for image in images]
    ground = np.clip(np.arange(height)[:, None] + 1.0 - (foot - 0.012) * height, 0, 1)
    return np.maximum(maps[0], ground), maps[1], maps[2], maps[3]


def _roof(draws: list, rng: np.random.Generator, x: float, wide: float, top: float, tone: int, height: int) -> None:
    """A spire, a step or nothing on top of a tower; `top` is in doubled rows, `x` and `wide` in columns."""
    kind = rng.random()
    if kind < 0.15:
        spire = rng.uniform(0.03, 0.09) * height * 2
        points = [((x + wide * 0.3) * 2, top), ((x + wide * 0.5) * 2, top - spire), ((x + wide * 0.7) * 2, top)]
        draws[0].polygon(points, fill=255)
        draws[1].polygon(points, fill=tone)
    elif kind < 0.45:
        step = [(x + wide * 0.2) * 2, top - rng.uniform(0.012, 0.04) * height * 2, (x + wide * 0.8) * 2, top + 2]
        draws[0].rectangle(step, fill=255)
        draws[1].rectangle(step, fill=tone)


def _windows(draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: list[float], height: int, near: float) -> None:
    """A grid of windows on one face, a random half of them lit."""
    pitch = height * 2 * (0.017 + 0.006 * near)
    pane = pitch * 0.52
    for y in np.arange(box[1] + pitch * 0.8, min(box[3], box[1] + height * 1.2) - pitch * 0.4, pitch * 1.15):
        for x in np.arange(box[0] + pitch * 0.5, box[2] - pitch * 0.9, pitch):
            draw.rectangle([x, y, x + pane, y + pane * 1.15], fill=255 if rng.random() < 0.5 else 140)
