"""Captions in varied wording, composed from a scene's attributes.

Every caption names the biome and the time of day, and the weather where it is not clear; the sun, the moon, the stars
and the water are named only where the crop shows them, and not always.
"""

import random

from .attributes import Scene

BIOME_WORDS = {
    "mountains": ("mountains", "mountains", "mountain range", "mountain landscape", "rocky peaks", "alpine mountains"),
    "hills": ("hills", "hills", "rolling hills", "green hills", "meadows and hills", "hilly countryside"),
    "desert": ("desert", "desert", "sand dunes", "desert dunes", "sandy desert", "dunes in the desert"),
    "ocean": ("ocean", "ocean", "sea", "open sea", "ocean waves", "seascape"),
    "forest": ("forest", "forest", "pine forest", "woods", "forest of fir trees", "pine trees"),
    "city": ("city", "city", "city skyline", "skyline", "skyscrapers", "big city", "cityscape"),
}
TIME_WORDS = {
    "dawn": ("at dawn", "at dawn", "at sunrise", "at daybreak", "at first light"),
    "morning": ("in the morning", "in the morning", "on a bright morning", "in morning light"),
    "noon": ("at noon", "at noon", "at midday", "in daylight", "by day", "during the day", "in the daytime"),
    "sunset": ("at sunset", "at sunset", "at sundown", "in the evening sun", "during sunset", "at golden hour"),
    "dusk": ("at dusk", "at dusk", "at twilight", "in the blue hour", "after sunset"),
    "night": ("at night", "at night", "at midnight", "by night", "in the dark night"),
}
BEFORE = {
    "cloudy": ("cloudy", "overcast"),
    "foggy": ("foggy", "misty", "hazy"),
    "rainy": ("rainy", "stormy"),
    "snowy": ("snowy", "snow-covered", "wintry"),
    "clear": ("clear", "", "", "", ""),
}
AFTER = {
    "cloudy": ("with clouds", "under a cloudy sky", "with dramatic clouds", "with fluffy clouds"),
    "foggy": ("in the fog", "in fog", "in the mist", "with fog"),
    "rainy": ("in the rain", "in a storm", "with rain clouds", "under a stormy sky"),
    "snowy": ("in the snow", "with snow", "in winter", "covered in snow"),
    "clear": ("", "", "", "under a clear sky"),
}
STYLES = (
    "",
    "",
    "",
    "",
    "a photo of ",
    "a painting of ",
    "a panorama of ",
    "a beautiful view of ",
    "a landscape with ",
)
WATER = ("by a lake", "with a lake", "reflected in the water", "reflected in a lake", "beside still water")
CITY_WATER = ("by the water", "reflected in the water", "on a river", "by a lake")
LIGHTS = {
    "sun": ("with the sun", "with a bright sun", "and the sun", "the sun in the sky"),
    "moon": ("with the moon", "with a full moon", "under the moon", "and the moon"),
}
STARS = ("with stars", "under the stars", "with a starry sky", "and stars")
LIGHT_MARGIN = 16  # px: a disc nearer to the crop's edge than this is not named


def lights(scene: Scene, left: int, width: int, canvas: int) -> bool:
    """Whether the sun's or moon's disc lies in the crop `left`..`left + width` px of a canvas of `canvas` px."""
    if scene.light_x is None:
        return False
    return left + LIGHT_MARGIN <= scene.light_x * canvas <= left + width - LIGHT_MARGIN


def caption(scene: Scene, light: bool, rng: random.Random) -> str:
    """One wording for a crop of `scene`; `light` says whether the sun or moon is in it."""
    subject, time = rng.choice(BIOME_WORDS[scene.biome]), rng.choice(TIME_WORDS[scene.time])
    if scene.weather in ("snowy",) and subject == "green hills":
        subject = "hills"
    before = rng.random() < 0.6
    if before:
        subject = f"{rng.choice(BEFORE[scene.weather])} {subject}".strip()
    phrases = [time]
    if not before:
        phrases.append(rng.choice(AFTER[scene.weather]))
        rng.shuffle(phrases)
    if scene.water and rng.random() < 0.8:
        phrases.insert(rng.randint(0, len(phrases)), rng.choice(CITY_WATER if scene.biome == "city" else WATER))
    if light and scene.light and rng.random() < 0.85:
        phrases.append(rng.choice(LIGHTS[scene.light]))
    if scene.stars and rng.random() < 0.5:
        phrases.append(rng.choice(STARS))
    phrases = [phrase for phrase in phrases if phrase]
    style = rng.choice(STYLES)
    article = "" if _plural(subject) else rng.choice(("a ", "a ", "the ", ""))
    if style.startswith("a ") and not article and not _plural(subject):
        article = "a "
    if article == "a " and subject[0] in "aeiou":
        article = "an "
    joint = rng.choice((" ", " ", ", "))
    return f"{style}{article}{subject} {joint.join(phrases)}"


_PLURALS = ("mountains", "peaks", "hills", "dunes", "waves", "woods", "trees", "skyscrapers")


def _plural(subject: str) -> bool:
    return subject.partition(" in ")[0].rpartition(" ")[2] in _PLURALS


def examples(count: int, seed: int = 0) -> list[str]:
    """`count` captions of random scenes, for the tokenizer's vocabulary."""
    from .attributes import sample

    rng = random.Random(seed)
    return [caption(sample(rng.randrange(10**9)), rng.random() < 0.4, rng) for _ in range(count)]
