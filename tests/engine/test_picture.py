"""The picture: a PNG that any reader opens, with the recipe that paints it again."""

from __future__ import annotations

import io
import json
import re
import time
from dataclasses import asdict, fields, replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from engine.picture import encode_png, provenance
from recipe.fields import Recipe
from recipe.request import PROVENANCE

PARAMS = Recipe(prompt='snow & "mist" über Zürich', negative_prompt="people", width=520, height=512, seed=2**53 - 1)


def picture(height: int, width: int) -> np.ndarray:
    """A smooth slope with noise on it, every byte value in it."""
    y, x = np.mgrid[:height, :width]
    slope = np.stack([x % 256, y % 256, (x + y) % 256], axis=-1)
    noise = np.random.default_rng(0).integers(0, 8, slope.shape)
    return ((slope + noise) % 256).astype(np.uint8)


def opened(pixels: np.ndarray, params: Recipe = PARAMS) -> Any:
    image = Image.open(io.BytesIO(encode_png(pixels, params, model="demo", revision="abc")))
    image.load()
    return image


@pytest.mark.parametrize(("height", "width"), [(512, 520), (1, 1), (3, 7), (64, 1030)])
def test_the_pixels_come_back_as_they_were(height: int, width: int) -> None:
    pixels = picture(height, width)
    np.testing.assert_array_equal(np.asarray(opened(pixels)), pixels)


def test_the_recipe_holds_everything_that_determines_the_picture() -> None:
    recipe = json.loads(opened(picture(8, 8)).text["recipe"])
    assert (recipe.pop("model"), recipe.pop("model_revision")) == ("demo", "abc")
    assert recipe == json.loads(json.dumps(asdict(PARAMS)))
    assert set(recipe) == {field.name for field in fields(Recipe)}


def test_the_recipe_says_what_painted_it() -> None:
    made_with = provenance("bfloat16", "cuda")
    assert {"model_revision", *made_with} == set(PROVENANCE)
    png = encode_png(picture(8, 8), PARAMS, model="demo", revision="abc", made_with=made_with)
    recipe = json.loads(Image.open(io.BytesIO(png)).text["recipe"])  # type: ignore[attr-defined]
    assert {name: recipe[name] for name in made_with} == made_with
    assert made_with["engine_version"] != "unknown"


def test_a_circular_picture_says_that_it_is_a_panorama() -> None:
    text = opened(picture(512, 2048), replace(PARAMS, circular=True)).text["XML:com.adobe.xmp"]
    described = dict(re.findall(r'GPano:(\w+)="([^"]*)"', text))
    assert described == {
        "UsePanoramaViewer": "True",
        "ProjectionType": "cylindrical",
        "FullPanoWidthPixels": "2048",
        "FullPanoHeightPixels": "1024",
        "CroppedAreaImageWidthPixels": "2048",
        "CroppedAreaImageHeightPixels": "512",
        "CroppedAreaLeftPixels": "0",
        "CroppedAreaTopPixels": "256",
    }
    ElementTree.fromstring(text)
    assert "XML:com.adobe.xmp" not in opened(picture(512, 2048)).text


def test_the_settings_are_readable_where_the_web_ui_writes_them() -> None:
    text = opened(picture(8, 8)).text["parameters"]
    assert text.splitlines()[:2] == ['snow & "mist" über Zürich', "Negative prompt: people"]
    assert "Steps: 50, Sampler: ddim, CFG scale: 7.5, Seed: 9007199254740991, Size: 520x512, Model: demo" in text


def test_skipped_layers_are_counted_as_the_web_ui_counts_them() -> None:
    assert "Clip skip: 2" in opened(picture(8, 8), replace(PARAMS, clip_skip=1)).text["parameters"]
    assert "Clip skip" not in opened(picture(8, 8)).text["parameters"]


def test_the_same_picture_is_the_same_bytes() -> None:
    pixels = picture(16, 32)
    first, again = (encode_png(pixels, PARAMS, model="demo", revision="abc") for _ in range(2))
    assert first == again


def test_a_wide_picture_is_encoded_in_well_under_the_time_of_a_step() -> None:
    pixels = picture(512, 4096)
    seconds = []
    for _ in range(3):
        start = time.thread_time()  # one core's own time: other work on the machine does not count
        encode_png(pixels, PARAMS, model="demo", revision="abc")
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.3, "about 0.03 s where it was measured; the room is for slower machines"
