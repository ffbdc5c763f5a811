"""What a scene shows, as plain values: the source of its picture, its captions and any label to evaluate with."""

from dataclasses import dataclass

import numpy as np

BIOMES = ("mountains", "hills", "desert", "ocean", "forest", "city")
TIMES = ("dawn", "morning", "noon", "sunset", "dusk", "night")
WEATHERS = ("clear", "cloudy", "foggy", "rainy", "snowy")
SNOWLESS = ("desert", "ocean")  # biomes that are never drawn under snow
LAKES = ("mountains", "hills", "forest", "city")  # biomes that may have still water in front


@dataclass(frozen=True)
class Scene:
    """The attributes of one wide drawn scene.

    `light_x` is the sun's or the moon's place across the canvas as a fraction of its width, or None where the scene
    has neither in view. There is at most one, so that a panorama never learns a second sun.
    """

    seed: int
    biome: str
    time: str
    weather: str
    water: bool
    light_x: float | None

    @property
    def light(self) -> str | None:
        """ "sun", "moon" or None."""
        if self.light_x is None:
            return None
        return "moon" if self.time == "night" else "sun"

    @property
    def stars(self) -> bool:
        """Whether stars are drawn."""
        return self.time == "night" and self.weather in ("clear", "snowy")


def sample(seed: int) -> Scene:
    """The scene that belongs to `seed`; biomes and times are equally frequent, clear weather is the most frequent."""
    rng = np.random.default_rng((seed, 1))
    biome = str(rng.choice(BIOMES))
    time = str(rng.choice(TIMES))
    snow = 0.0 if biome in SNOWLESS else 0.16
    odds = np.array([0.42, 0.22, 0.14, 0.08, snow])
    weather = str(rng.choice(WEATHERS, p=odds / odds.sum()))
    water = biome in LAKES and bool(rng.random() < (0.5 if biome != "hills" else 0.25))
    seen = {"clear": 0.75, "cloudy": 0.45, "foggy": 0.3, "snowy": 0.4, "rainy": 0.0}[weather]
    if time == "dusk":  # the sun is below the horizon; its glow stays
        seen = 0.0
    light_x = float(rng.uniform(0.06, 0.94)) if rng.random() < seen else None
    return Scene(seed, biome, time, weather, water, light_x)
