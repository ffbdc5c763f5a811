"""Regions: the article's algorithm to rounding, soft borders, plain grounds, and no view computed for nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.grounds import Grounds
from engine.inputs.regions import fusion_plan
from engine.loading import load_model
from engine.paint import paint
from engine.sampler import initial_noise
from recipe.cost import network_samples
from recipe.fields import VIEW_WEIGHTS, Recipe
from recipe.models import find_model
from recipe.regions import Region
from recipe.views import View
from testkit.article import Part, article_regions
from testkit.parity import as_published, relative_rms
from testkit.regions import ACROSS, HALVES, OVERLAPPING, asked, ours
from testkit.tiny import build_tiny_xl

TOLERANCE = 1e-5  # relative RMS, fp32


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_model)), device="cpu")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    return load_model(find_model(str(build_tiny_xl(tmp_path_factory.mktemp("xl")))), device="cpu")


def centres_in(share_from: float, share_to: float, cells: int) -> torch.Tensor:
    """Which cells have their centre between two shares; the other way round, outside of them."""
    centre = (torch.arange(cells) + 0.5) / cells
    if share_from > share_to:
        return (centre >= share_from) | (centre < share_to)
    return (centre >= share_from) & (centre < share_to)


def parts_of(model: StableDiffusion, recipe: Recipe) -> list[Part]:
    """The regions as the article has them: masks, the background's being what the others leave, and their texts."""
    height, width = recipe.height // 8, recipe.width // 8
    masks = [
        torch.outer(centres_in(r.top, r.bottom, height), centres_in(r.left, r.right, width)).float()
        for r in recipe.regions
    ]
    background = (1 - torch.stack(masks).sum(0)).clamp_min(0)
    prompts = [(recipe.prompt, recipe.negative_prompt, recipe.guidance_scale)]
    prompts += [(r.prompt, r.negative_prompt, r.guidance_scale) for r in recipe.regions]
    return [
        Part(mask, model.encode(Recipe(prompt=prompt, negative_prompt=negative)), scale)
        for mask, (prompt, negative, scale) in zip([background, *masks], prompts, strict=True)
    ]


def grounds_of(model: StableDiffusion, recipe: Recipe) -> Callable[[int, int, View], torch.Tensor | None]:
    """The ground that the engine drew for a step, a region and a view, without noise."""
    height, width = recipe.height // 8, recipe.width // 8
    noise = initial_noise(4, height, width, recipe.seed)[0]
    with torch.inference_mode():
        grounds = Grounds.of(model, recipe, noise)
    plan = fusion_plan(recipe, model.facts, model.device)

    def drawn(step: int, region: int, view: View) -> torch.Tensor | None:
        if grounds is None:
            return None
        tiles = grounds.behind(plan(step), step).tiles
        found = [tile.ground for tile in tiles if (tile.region, tile.view) == (region, view)]
        return None if not found or found[0] is None else grounds.latents[found[0]]

    return drawn


CASES: dict[str, dict[str, Any]] = {
    "halves": {"regions": HALVES},
    "overlapping": {"regions": OVERLAPPING},
    "across the edge": {"regions": ACROSS, "circular": True, "width": 256},
    "bootstrapped": {"regions": OVERLAPPING, "region_bootstrap": 0.5},
    "bootstrapped across the edge": {"regions": ACROSS, "circular": True, "width": 256, "region_bootstrap": 1.0},
}


QUICK = [("sd", "halves"), ("sd", "bootstrapped across the edge")]
SLOW = [(family, name) for family in ("sd", "xl") for name in CASES if (family, name) not in QUICK]


@pytest.mark.parametrize(("family", "name"), [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_regions_with_hard_borders_are_the_articles_algorithm(
    request: pytest.FixtureRequest, family: str, name: str
) -> None:
    model = request.getfixturevalue("model" if family == "sd" else "xl")
    # From ten steps on the engine spaces them as the model's configuration says.
    recipe = asked(**{"width": 224, "view_stride": 8, "num_inference_steps": 10, **CASES[name]})
    with torch.inference_mode():
        theirs = article_regions(as_published(model), recipe, parts_of(model, recipe), grounds_of(model, recipe))
    assert relative_rms(ours(model, recipe), theirs) <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"circular": True, "scheduler": "euler", "view_weights": "hann"},
        {"shift_views": True, "scheduler": "dpmpp_2m", "view_weights": "gaussian", "region_feather": 0.3},
        {"scheduler": "heun", "guidance_end": 0.5, "guidance_rescale": 0.7, "region_bootstrap": 1.0},
    ],
    ids=["plain", "circular", "shifted", "bootstrapped"],
)
@pytest.mark.parametrize("family", ["sd", "xl"])
def test_a_box_that_covers_everything_is_the_plain_request(
    request: pytest.FixtureRequest, family: str, changes: dict[str, Any]
) -> None:
    model = request.getfixturevalue("model" if family == "sd" else "xl")
    plain = asked(prompt="dunes", negative_prompt="fog", **changes)
    covering = Region(prompt="dunes", negative_prompt="fog", weight=3.0)
    boxed = replace(plain, prompt="never seen", negative_prompt="", regions=(covering,))
    assert relative_rms(ours(model, boxed), ours(model, plain)) <= 1e-6
    assert network_samples(boxed, model.facts) == network_samples(plain, model.facts)


def test_the_size_of_the_micro_batches_changes_nothing(model: StableDiffusion) -> None:
    recipe = asked(regions=OVERLAPPING, region_feather=0.2, region_bootstrap=0.5, view_stride=8, width=224)
    first, *others = (ours(model, recipe, size) for size in (1, 3, 64))
    assert all(relative_rms(other, first) <= TOLERANCE for other in others)


def test_each_side_is_its_own_prompts(model: StableDiffusion) -> None:
    """With hard borders and one view a column, a side is painted as if its prompt were the only one."""
    recipe = asked(width=256, height=128, view_stride=16, regions=HALVES)
    painted = ours(model, recipe)
    for region, side in zip(HALVES, (slice(0, 16), slice(16, 32)), strict=True):
        scale = region.guidance_scale
        alone = asked(width=256, height=128, view_stride=16, prompt=region.prompt, guidance_scale=scale)
        alone = replace(alone, negative_prompt=region.negative_prompt)
        assert relative_rms(painted[..., side], ours(model, alone)[..., side]) <= TOLERANCE


@pytest.mark.parametrize("weights", VIEW_WEIGHTS)
def test_a_panorama_with_regions_is_painted_and_a_seed_is_one_picture(model: StableDiffusion, weights: str) -> None:
    recipe = asked(
        regions=OVERLAPPING, region_feather=0.1, region_bootstrap=0.3, view_weights=weights, scheduler="euler_a"
    )
    first, again = (paint(model, recipe).pixels for _ in range(2))
    assert first.shape == (144, 320, 3)
    assert first.tobytes() == again.tobytes()


def test_a_notice_names_the_region(model: StableDiffusion) -> None:
    long = "words and more of them " * 20
    regions = (Region(prompt="a", negative_prompt=long), Region(prompt=long, left=0.5, guidance_scale=1.0))
    recipe = asked(negative_prompt=long, num_inference_steps=1, regions=regions)
    recipe = replace(recipe, regions=(regions[0], replace(regions[1], negative_prompt="fog")))
    notices = [(notice.code, notice.detail.split(" ")[0]) for notice in paint(model, recipe).notices]
    assert notices == [
        ("prompt-truncated", "negative_prompt"),  # the first region's is the same, and not told twice
        ("prompt-truncated", "regions/1/prompt"),
        ("negative-prompt-unused", "regions/1/negative_prompt"),
    ]


def test_texts_of_several_chunks_have_one_length(model: StableDiffusion) -> None:
    regions: Sequence[Region] = (Region(prompt="lake BREAK dunes BREAK fog"), Region(prompt="a", left=0.5))
    with torch.inference_mode():
        found = model.encode(asked(regions=tuple(regions), prompt_syntax="a1111"))
    pairs = [found, *found.regions]
    assert {text.states.shape[1] for pair in pairs for text in (pair.positive, pair.negative)} == {3 * 77}
