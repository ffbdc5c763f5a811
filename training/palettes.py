"""Colours of the sky and of the light by time of day and weather. All colours are RGB in 0..1, display-referred."""

from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray


def rgb(r: float, g: float, b: float) -> Array:
    """A colour as a float32 array (3,)."""
    return np.array([r, g, b], np.float32)


def mix(a: Array, b: Array, t: float | Array) -> Array:
    """Linear blend from `a` (t = 0) to `b` (t = 1)."""
    return a + (b - a) * t


@dataclass(frozen=True)
class Palette:
    """`sky` holds the colours from the zenith down to the horizon (4, 3); `haze` is what distance fades to."""

    sky: Array
    haze: Array
    light: Array  # multiplies the colour of what the light falls on
    shade: Array  # the same in the shadow
    glow: Array  # the aureole round the sun or the moon
    disc: Array
    cloud_lit: Array
    cloud_dark: Array
    lamps: float  # 0..1, how many windows are lit


Colour = tuple[float, float, float]


def _palette(
    sky: list[Colour],
    haze: Colour,
    light: Colour,
    shade: Colour,
    glow: Colour,
    disc: Colour,
    cloud_lit: Colour,
    cloud_dark: Colour,
    lamps: float,
) -> Palette:
    return Palette(
        sky=np.array(sky, np.float32),
        haze=rgb(*haze),
        light=rgb(*light),
        shade=rgb(*shade),
        glow=rgb(*glow),
        disc=rgb(*disc),
        cloud_lit=rgb(*cloud_lit),
        cloud_dark=rgb(*cloud_dark),
        lamps=lamps,
    )


TIMES: dict[str, Palette] = {
    "dawn": _palette(
        [(0.40, 0.48, 0.72), (0.68, 0.63, 0.80), (0.96, 0.74, 0.74), (1.0, 0.87, 0.74)],
        (0.93, 0.77, 0.77),
        (1.0, 0.80, 0.76),
        (0.50, 0.46, 0.62),
        (1.0, 0.82, 0.62),
        (1.0, 0.95, 0.82),
        (1.0, 0.84, 0.80),
        (0.66, 0.58, 0.74),
        0.25,
    ),
    "morning": _palette(
        [(0.34, 0.60, 0.88), (0.58, 0.78, 0.94), (0.84, 0.90, 0.92), (1.0, 0.94, 0.78)],
        (0.90, 0.90, 0.84),
        (1.0, 0.95, 0.80),
        (0.56, 0.62, 0.70),
        (1.0, 0.93, 0.70),
        (1.0, 0.98, 0.86),
        (1.0, 0.98, 0.93),
        (0.74, 0.79, 0.86),
        0.0,
    ),
    "noon": _palette(
        [(0.10, 0.36, 0.78), (0.26, 0.55, 0.90), (0.53, 0.76, 0.96), (0.78, 0.90, 0.98)],
        (0.72, 0.85, 0.95),
        (1.0, 1.0, 0.97),
        (0.52, 0.60, 0.72),
        (0.95, 0.97, 1.0),
        (1.0, 1.0, 0.95),
        (1.0, 1.0, 1.0),
        (0.70, 0.76, 0.86),
        0.0,
    ),
    "sunset": _palette(
        [(0.24, 0.18, 0.42), (0.62, 0.26, 0.40), (0.95, 0.43, 0.24), (1.0, 0.74, 0.32)],
        (0.93, 0.50, 0.32),
        (1.0, 0.58, 0.38),
        (0.34, 0.22, 0.36),
        (1.0, 0.66, 0.22),
        (1.0, 0.90, 0.55),
        (1.0, 0.56, 0.34),
        (0.44, 0.22, 0.36),
        0.3,
    ),
    "dusk": _palette(
        [(0.06, 0.08, 0.25), (0.17, 0.16, 0.42), (0.42, 0.27, 0.54), (0.80, 0.46, 0.52)],
        (0.42, 0.32, 0.54),
        (0.44, 0.37, 0.58),
        (0.16, 0.15, 0.32),
        (0.75, 0.42, 0.50),
        (1.0, 0.8, 0.7),
        (0.52, 0.36, 0.58),
        (0.19, 0.17, 0.37),
        0.55,
    ),
    "night": _palette(
        [(0.020, 0.040, 0.140), (0.045, 0.090, 0.250), (0.090, 0.165, 0.360), (0.17, 0.27, 0.46)],
        (0.14, 0.22, 0.40),
        (0.30, 0.38, 0.60),
        (0.09, 0.13, 0.26),
        (0.45, 0.55, 0.75),
        (0.97, 0.97, 0.90),
        (0.33, 0.41, 0.60),
        (0.08, 0.12, 0.25),
        0.75,
    ),
}


def _grey(colour: Array, amount: float, factor: float = 1.0) -> Array:
    """`colour` (..., 3) drawn towards its own luminance, slightly blue, and scaled."""
    luminance = colour @ rgb(0.30, 0.55, 0.15)
    return mix(colour, luminance[..., None] * rgb(0.96, 1.0, 1.06), amount) * factor


def palette(time: str, weather: str) -> Palette:
    """The colours of `time` under `weather`."""
    base = TIMES[time]
    if weather == "rainy":
        return replace(
            base,
            sky=_grey(base.sky, 0.75, 0.72),
            haze=_grey(base.haze, 0.7, 0.75),
            light=_grey(base.light, 0.6, 0.72),
            shade=_grey(base.shade, 0.6, 0.8),
            glow=_grey(base.glow, 0.6, 0.6),
            lamps=max(base.lamps, 0.25),
            cloud_lit=_grey(base.cloud_lit, 0.7, 0.66),
            cloud_dark=_grey(base.cloud_dark, 0.7, 0.62),
        )
    if weather == "foggy":
        sky = mix(_grey(base.sky, 0.35), base.haze, np.array([0.25, 0.5, 0.8, 0.95], np.float32)[:, None])
        return replace(base, sky=sky, light=_grey(base.light, 0.4), haze=_grey(base.haze, 0.25, 1.03))
    if weather == "snowy":
        return replace(
            base,
            sky=_grey(base.sky, 0.25),
            haze=mix(_grey(base.haze, 0.3), base.sky[3], 0.3),
            cloud_dark=_grey(base.cloud_dark, 0.3),
        )
    if weather == "cloudy":
        return replace(base, sky=_grey(base.sky, 0.12), light=base.light * 0.93)
    return base
