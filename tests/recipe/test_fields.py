"""Parameters: everything that no model could paint is refused by the name of its field."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from recipe.errors import RecipeError
from recipe.facts import ModelFacts
from recipe.field import MAX_PROMPT_CHARS, TEXT_PATTERN
from recipe.fields import MAX_SEED, Recipe


def faults(**changes: Any) -> dict[str, str]:
    with pytest.raises(RecipeError) as refused:
        Recipe(**{"prompt": "mountains", **changes}).check_fits(ModelFacts())
    return {error.field: error.detail for error in refused.value.errors}


def test_the_defaults_are_the_articles() -> None:
    params = Recipe(prompt="mountains")
    params.check_fits(ModelFacts())
    assert (params.width, params.height, params.num_inference_steps, params.guidance_scale) == (2048, 512, 50, 7.5)
    assert (params.scheduler, params.view_stride, params.view_weights, params.circular) == ("ddim", 8, "uniform", False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", " \n"),
        ("prompt", "x" * (MAX_PROMPT_CHARS + 1)),
        ("negative_prompt", "x" * (MAX_PROMPT_CHARS + 1)),
        ("width", 0),
        ("width", 504),
        ("width", 2047),
        ("height", 511),
        ("height", -512),
        ("num_inference_steps", 0),
        ("num_inference_steps", 1001),
        ("guidance_scale", float("nan")),
        ("guidance_scale", -0.1),
        ("guidance_scale", 100.1),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("scheduler", "magic"),
        ("view_stride", 0),
        ("view_stride", 65),
        ("view_weights", "magic"),
        ("prompt_syntax", "comfy"),
        ("clip_skip", -1),
    ],
)
def test_a_bad_value_is_refused_by_its_fields_name(field: str, value: Any) -> None:
    assert list(faults(**{field: value})) == [field]


def test_all_faults_are_told_at_once() -> None:
    assert set(faults(prompt="", width=0, seed=-1)) == {"prompt", "width", "seed"}
    assert set(faults(width=2047, height=8, view_stride=100)) == {"width", "height", "view_stride"}


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("character", ["\0", "\x01", "\x08", "\x0b", "\x1b", "\x1f", "\ud800"])
def test_a_character_that_no_text_in_a_picture_can_hold_is_refused_by_its_code(field: str, character: str) -> None:
    told = faults(**{field: f"hills{character}lake"})
    assert list(told) == [field]
    assert f"U+{ord(character):04X}" in told[field]
    assert "at index 5" in told[field]


def test_lines_tabs_and_every_script_are_accepted() -> None:
    for text in ("two\nlines", "two\r\nlines", "a\ttab", "naïve 山水 🏔\u200d", "a\x85b\u2028c"):
        assert Recipe(prompt=text).prompt == text
        assert re.search(TEXT_PATTERN, text)
    assert not re.search(TEXT_PATTERN, "hills\0lake")


def test_a_skip_of_more_layers_than_the_text_encoder_has_is_refused() -> None:
    known = ModelFacts(max_clip_skip=11)
    Recipe(prompt="x", clip_skip=11).check_fits(known)
    with pytest.raises(RecipeError, match="clip_skip: must be at most 11, not 12"):
        Recipe(prompt="x", clip_skip=12).check_fits(known)
    Recipe(prompt="x", clip_skip=12).check_fits(ModelFacts())


def test_a_size_between_two_that_fit_is_told_both() -> None:
    assert "nearest: 2040 or 2048" in faults(width=2047)["width"]


@pytest.mark.parametrize(
    ("field", "value"), [("seed", MAX_SEED), ("width", 512), ("height", 4096), ("view_stride", 64)]
)
def test_the_limits_themselves_are_accepted(field: str, value: int) -> None:
    Recipe(prompt="mountains", **{field: value}).check_fits(ModelFacts())  # type: ignore[arg-type]


def test_a_model_of_larger_views_has_other_limits() -> None:
    sdxl = ModelFacts(window=128)
    Recipe(prompt="x", width=1024, height=1024, view_stride=128).check_fits(sdxl)
    with pytest.raises(RecipeError, match="at least 1024"):
        Recipe(prompt="x", height=512).check_fits(sdxl)


def test_parameters_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Recipe(prompt="x").seed = 1  # type: ignore[misc]
