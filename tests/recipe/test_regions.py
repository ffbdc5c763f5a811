"""Regions in a recipe: what is refused and where, what is inherited, and how the command lines write them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import typer

from panoramas.cli.regions import parse_region as parsed_by_client
from recipe.errors import RecipeError
from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.models import BUILTIN
from recipe.regions import MAX_REGIONS, Region, parse_region, read_regions
from recipe.request import resolve

NAN, INFINITE = float("nan"), float("inf")


def faults(regions: Any, **changes: Any) -> dict[str, str]:
    def recipe() -> Recipe:
        return Recipe(**{"prompt": "hills", "regions": read_regions(regions), **changes})

    with pytest.raises(RecipeError) as refused:
        recipe().check_fits(ModelFacts())
    return {error.field: error.detail for error in refused.value.errors}


@pytest.mark.parametrize(
    ("region", "field"),
    [
        ({}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": "hills\0"}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "a", "negative_prompt": "\x1b"}, "negative_prompt"),
        ({"prompt": "a", "left": -0.1}, "left"),
        ({"prompt": "a", "right": 1.1}, "right"),
        ({"prompt": "a", "top": NAN}, "top"),
        ({"prompt": "a", "bottom": INFINITE}, "bottom"),
        ({"prompt": "a", "left": "0"}, "left"),
        ({"prompt": "a", "left": True}, "left"),
        ({"prompt": "a", "left": 10**400}, "left"),
        ({"prompt": "a", "left": 0.5, "right": 0.5}, "right"),
        ({"prompt": "a", "left": 0.6, "right": 0.4}, "right"),
        ({"prompt": "a", "top": 0.6, "bottom": 0.4}, "bottom"),
        ({"prompt": "a", "left": 0.5, "right": 0.5001}, "right"),
        ({"prompt": "a", "top": 0.5, "bottom": 0.501}, "bottom"),
        ({"prompt": "a", "guidance_scale": NAN}, "guidance_scale"),
        ({"prompt": "a", "guidance_scale": 101}, "guidance_scale"),
        ({"prompt": "a", "weight": 0}, "weight"),
        ({"prompt": "a", "weight": -1}, "weight"),
        ({"prompt": "a", "colour": "red"}, "colour"),
        ("a box", ""),
        (None, ""),
    ],
)
def test_a_fault_of_a_region_is_named_by_its_path(region: Any, field: str) -> None:
    expected = f"regions/1/{field}" if field else "regions/1"
    assert list(faults([{"prompt": "a good one"}, region])) == [expected]


def test_all_faults_are_told_at_once() -> None:
    bad = Region(prompt="", left=2.0, bottom=0.0)
    assert set(faults((bad, bad), width=-1)) == {
        "width",
        *(f"regions/{i}/{name}" for i in (0, 1) for name in ("prompt", "left", "bottom")),
    }


def test_more_regions_than_a_canvas_may_have_are_refused() -> None:
    many = (Region(prompt="a"),) * MAX_REGIONS
    Recipe(prompt="hills", regions=many).check_fits(ModelFacts())
    assert list(faults((*many, many[0]))) == ["regions"]
    assert list(faults({"prompt": "a"})) == ["regions"]


def test_a_box_crosses_the_edge_of_a_circular_canvas_alone() -> None:
    across = Region(prompt="a", left=0.9, right=0.2)
    Recipe(prompt="hills", regions=(across,), circular=True).check_fits(ModelFacts())
    assert "circular" in faults((across,))["regions/0/right"]
    assert across.columns(100) == (90, 120)
    assert replace(across, right=0.9).faults(circular=True)["right"]


@pytest.mark.parametrize(
    ("name", "value"), [("region_feather", -0.1), ("region_feather", 1.1), ("region_bootstrap", 2)]
)
def test_shares_are_shares(name: str, value: float) -> None:
    assert list(faults([], **{name: value})) == [name]


def test_a_region_inherits_the_requests_negative_prompt_and_guidance() -> None:
    regions = [
        {"prompt": "a"},
        {"prompt": "b", "negative_prompt": None, "guidance_scale": 3, "left": None},
        {"prompt": "c", "negative_prompt": "", "weight": 2},
    ]
    asked = {"prompt": "hills", "negative_prompt": "people", "regions": regions}
    own = BUILTIN["demo"].defaults["guidance_scale"]
    first, second, third = resolve(asked, BUILTIN["demo"]).regions
    assert (first.negative_prompt, first.guidance_scale, first.right) == ("people", own, 1.0)
    assert (second.negative_prompt, second.guidance_scale, second.left) == ("people", 3.0, 0.0)
    assert (third.negative_prompt, third.guidance_scale, third.weight) == ("", own, 2.0)


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(prompt="hills", regions=(Region(prompt="a", right=0.5), Region(prompt="b")), region_feather=0.5)
    assert Recipe.of(json.loads(json.dumps(asdict(recipe)))) == recipe
    older = {name: value for name, value in asdict(recipe).items() if not name.startswith("region")}
    assert Recipe.of(older).regions == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,0,0.5,1:mountains", {"left": 0.0, "top": 0.0, "right": 0.5, "bottom": 1.0, "prompt": "mountains"}),
        (
            "0.9, 0, .1, 1: a wood: dark",
            {"left": 0.9, "top": 0.0, "right": 0.1, "bottom": 1.0, "prompt": "a wood: dark"},
        ),
        ('{"prompt": "a", "weight": 2}', {"prompt": "a", "weight": 2}),
    ],
)
def test_both_command_lines_read_a_region_alike(text: str, expected: dict[str, Any]) -> None:
    assert parse_region(text) == parsed_by_client(text) == expected


@pytest.mark.parametrize("text", ["", "mountains", "0,0,1:mountains", "0,0,1,x:mountains", "{", "0,0,1,1,1:a"])
def test_what_is_no_region_is_refused_by_both_command_lines(text: str) -> None:
    with pytest.raises(ValueError, match="left,top,right,bottom:prompt"):
        parse_region(text)
    with pytest.raises(typer.BadParameter):
        parsed_by_client(text)
