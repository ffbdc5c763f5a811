"""Regions: the article's algorithm to rounding, soft borders, plain grounds, and no view computed for nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.grounds import Grounds, levels
from engine.inputs.regions import fusion_plan, region_masks
from engine.loading import load_model
from engine.paint import paint, paint_latents
from engine.sampler import initial_noise
from engine.schedulers import make_scheduler
from engine.tiles import Rows
from recipe.cost import network_samples
from recipe.facts import ModelFacts
from recipe.fields import VIEW_WEIGHTS, Recipe
from recipe.models import find_model
from recipe.regions import Region
from recipe.schedulers import SCHEDULERS
from recipe.tiling import Canvas
from recipe.views import View
from testkit.article import Part, article_regions
from testkit.parity import as_published, relative_rms
from testkit.quirky import build, unet
from testkit.tiny import SCALED_LINEAR, build_tiny_xl

TOLERANCE = 1e-5  # relative RMS, fp32
SMALL = ModelFacts(window=16)

HALVES = (
    Region(prompt="mountains", right=0.5, negative_prompt="people"),
    Region(prompt="a city", left=0.5, negative_prompt="fog", guidance_scale=3.0),
)
# Three boxes, two of which overlap, and something left for the main prompt.
OVERLAPPING = (
    Region(prompt="a lake", left=0.1, right=0.55, top=0.3, negative_prompt="people"),
    Region(prompt="a tower", left=0.4, right=0.7, bottom=0.8, guidance_scale=12.0),
    Region(prompt="the sun", left=0.8, right=0.95, bottom=0.25, negative_prompt="rain"),
)
ACROSS = (
    Region(prompt="a wood", left=0.8, right=0.15, guidance_scale=4.0),
    Region(prompt="dunes", left=0.3, right=0.6),
)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_model)), device="cpu")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    return load_model(find_model(str(build_tiny_xl(tmp_path_factory.mktemp("xl")))), device="cpu")


def asked(**changes: Any) -> Recipe:
    given = {"prompt": "hills", "width": 320, "height": 144, "num_inference_steps": 4, "seed": 5, "view_stride": 4}
    return Recipe(**{**given, **changes})


def ours(model: StableDiffusion, recipe: Recipe, batch: int = 5) -> torch.Tensor:
    with torch.inference_mode():
        return paint_latents(model, recipe, conditioning=model.encode(recipe), batches=MicroBatches(batch))


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


@pytest.mark.parametrize(
    ("family", "name"),
    [*(("sd", name) for name in CASES), *(pytest.param("xl", name, marks=pytest.mark.slow) for name in CASES)],
)
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


# Masks


def masks_of(recipe: Recipe, facts: ModelFacts = SMALL) -> torch.Tensor:
    return region_masks(Canvas.of(recipe, facts))


def test_boxes_with_a_common_side_share_no_cell_and_leave_none() -> None:
    thirds = [Region(prompt="a", left=i / 3, right=(i + 1) / 3, top=0.0) for i in range(3)]
    for width in range(128, 400, 8):
        masks = masks_of(asked(width=width, regions=tuple(thirds)))
        assert bool((masks[1:].sum(0) == 1).all())
        assert bool((masks[0] == 0).all())


def test_a_soft_border_is_linear_and_as_wide_as_asked() -> None:
    """A quarter of 64 rows: 16 cells, half of them on either side of the border."""
    recipe = asked(width=1024, height=512, regions=HALVES, region_feather=0.25)
    left, right = masks_of(recipe, ModelFacts())[1:, 30]
    assert bool((left[:56] == 1).all())
    assert bool((left[72:] == 0).all())
    steps = left[55:72].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, -1 / 17))
    torch.testing.assert_close(left + right, torch.ones_like(left))


@pytest.mark.parametrize("circular", [False, True])
def test_soft_masks_sum_to_one_where_no_boxes_overlap(circular: bool) -> None:
    apart = (
        Region(prompt="a", right=0.3, bottom=0.5),
        Region(prompt="b", left=0.3, right=0.6, top=0.25),
        Region(prompt="c", left=0.7, right=0.95),
    )
    masks = masks_of(asked(width=512, height=256, regions=apart, region_feather=0.3, circular=circular))
    torch.testing.assert_close(masks.sum(0), torch.ones(32, 64))
    assert float(masks[0].max()) > 0.9, "the main prompt has a part"


def test_on_a_ring_the_border_at_its_edge_is_soft_too() -> None:
    ring, strip = (masks_of(asked(regions=HALVES, region_feather=0.5, circular=c))[1, 5] for c in (True, False))
    assert strip[0] == 1
    assert 0.4 < ring[0] < 0.6
    torch.testing.assert_close(ring, ring.flip(0).roll(len(ring) // 2))


def test_a_weight_scales_a_regions_share() -> None:
    both = (Region(prompt="a", weight=3.0), Region(prompt="b", left=0.5))
    masks = masks_of(asked(regions=both))
    assert masks[:, 0, 0].tolist() == [0, 3, 0]
    assert masks[:, 0, -1].tolist() == [0, 3, 1]


# Tiles and their cost


def random_recipe(rng: random.Random) -> Recipe:
    circular = rng.random() < 0.5
    regions = []
    for _ in range(rng.randrange(5)):
        left, right = rng.random(), rng.random()
        if not circular:
            left, right = sorted((left, right))
        top, bottom = sorted((rng.random(), rng.random()))
        scale = rng.choice([0.5, 1.0, 7.5])
        regions.append(Region(prompt="a", left=left, right=right, top=top, bottom=bottom, guidance_scale=scale))
    return asked(
        width=8 * rng.randrange(16, 70),
        height=8 * rng.randrange(16, 50),
        view_stride=rng.randrange(1, 17),
        circular=circular,
        regions=tuple(regions),
        region_feather=rng.choice([0, 0, 0.1, 0.5, 1]),
        guidance_scale=rng.choice([1.0, 7.5]),
        shift_views=rng.random() < 0.5,
        seed=rng.randrange(100),
        num_inference_steps=3,
        guidance_end=rng.choice([0.5, 1.0]),
    )


def fits(recipe: Recipe) -> bool:
    return not any(region.size_faults(recipe.width, recipe.height, SMALL) for region in recipe.regions)


def test_a_view_is_computed_for_just_the_regions_that_touch_it() -> None:
    rng = random.Random(7)
    for recipe in filter(fits, (random_recipe(rng) for _ in range(60))):
        masks = masks_of(recipe)
        masks = torch.cat([masks, masks[..., :16]], -1)
        plan = fusion_plan(recipe, SMALL, torch.device("cpu"))
        for step in range(3):
            fusion = plan(step)
            found = {(tile.view, tile.region) for tile in fusion.tiles}
            views = {tile.view for tile in fusion.tiles}
            touched = {
                (view, region)
                for view in views
                for region, mask in enumerate(masks)
                if bool((mask[view.top : view.bottom, view.left : view.right] > 0).any())
            }
            assert found == touched, recipe
            assert len(found) == len(fusion.tiles)
            assert float(fusion.total_weight.min()) > 0


class Counting:
    """A network that says nothing, and how many samples it was asked for."""

    def __init__(self, facts: ModelFacts) -> None:
        self.facts, self.asked, self.latent_channels = facts, 0, 4
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def predict(self, rows: Rows, timestep: torch.Tensor) -> torch.Tensor:
        self.asked += len(rows)
        return torch.zeros(len(rows.branches), *rows.crops.shape)


def samples_run(model: StableDiffusion, recipe: Recipe, facts: ModelFacts) -> int:
    counting: Any = Counting(facts)
    paint_latents(counting, recipe, conditioning=model.encode(recipe), batches=MicroBatches(7))
    return counting.asked


def test_the_cost_foreseen_is_the_samples_run(model: StableDiffusion) -> None:
    rng = random.Random(8)
    facts = replace(SMALL, schedule=model.facts.schedule)
    for drawn in filter(fits, (random_recipe(rng) for _ in range(30))):
        recipe = replace(drawn, view_stride=max(drawn.view_stride, 8))
        assert network_samples(recipe, facts) == samples_run(model, recipe, facts)
        embedded = replace(facts, embeds_guidance=True)
        assert network_samples(recipe, embedded) == samples_run(model, recipe, embedded)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_cost_of_every_solver_is_foreseen(model: StableDiffusion, scheduler: str) -> None:
    facts = replace(SMALL, schedule=model.facts.schedule)
    for steps in (1, 2, 5):
        if not SCHEDULERS[scheduler].steps_fault(steps):
            changes = {"scheduler": scheduler, "num_inference_steps": steps, "guidance_end": 0.5, "width": 192}
            recipe = asked(view_stride=16, regions=HALVES, **changes)
            assert network_samples(recipe, facts) == samples_run(model, recipe, facts)


def test_regions_without_guidance_take_one_branch(model: StableDiffusion) -> None:
    one = (HALVES[0], replace(HALVES[1], guidance_scale=1.0))
    recipe = asked(width=256, height=128, view_stride=16, regions=one)
    assert network_samples(recipe, model.facts) == 4 * (2 + 1)
    alone = replace(recipe, regions=(), prompt=one[1].prompt, guidance_scale=1.0)
    painted, expected = ours(model, recipe), ours(model, alone)
    assert relative_rms(painted[..., 16:], expected[..., 16:]) <= TOLERANCE


def test_a_distilled_model_is_told_each_regions_guidance(tmp_path: Path) -> None:
    model = load_model(find_model(str(build(tmp_path / "lcm", unet(time_cond_proj_dim=16)))), device="cpu")
    recipe = asked(width=256, height=128, view_stride=16, regions=HALVES)
    painted = ours(model, recipe)
    for region, side in zip(HALVES, (slice(0, 16), slice(16, 32)), strict=True):
        alone = replace(recipe, regions=(), prompt=region.prompt, guidance_scale=region.guidance_scale)
        assert relative_rms(painted[..., side], ours(model, alone)[..., side]) <= TOLERANCE


# Grounds


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_ground_has_the_noise_that_the_network_expects(scheduler: str, zero_snr: bool) -> None:
    """Signal and noise as the network sees them have a variance of one together, at every call of every solver."""
    config: dict[str, Any] = {**SCALED_LINEAR, "clip_sample": False, "steps_offset": 1}
    if zero_snr:
        config |= {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    solver = make_scheduler(scheduler, config, 10)
    signals = []
    for timestep in solver.timesteps:
        signal, noise = levels(solver, timestep)
        assert signal**2 + noise**2 == pytest.approx(1, abs=1e-3)
        signals.append(signal)
        solver.step(torch.zeros(1, 4, 8, 8), timestep, torch.zeros(1, 4, 8, 8))
    assert signals[0] < 0.2
    assert signals[-1] > 0.7


def test_the_network_sees_a_plain_ground_around_a_region_in_the_first_steps_alone(model: StableDiffusion) -> None:
    recipe = asked(width=256, height=128, view_stride=8, regions=(HALVES[1],), region_bootstrap=0.5)
    noise = initial_noise(4, 16, 32, recipe.seed)[0]
    with torch.inference_mode():
        grounds = Grounds.of(model, recipe, noise)
    assert grounds is not None
    plan = fusion_plan(recipe, model.facts, model.device)
    scheduler = make_scheduler("ddim", model.facts.schedule, 4)
    look = grounds.look(scheduler, scheduler.timesteps[0])
    for step in range(4):
        tiles = grounds.behind(plan(step), step).tiles
        crops = torch.full((len(tiles), 4, 16, 16), 9.0)
        for tile, seen in zip(tiles, look(crops, tiles), strict=True):
            inside = torch.arange(tile.view.left, tile.view.right) >= 16
            assert bool((seen[..., inside] == 9).all())
            if tile.region and step < 2:
                assert bool((seen[..., ~inside] != 9).all())
            else:
                assert bool((seen == 9).all())


def test_grounds_are_plain_pictures_of_several_colours(model: StableDiffusion) -> None:
    recipe = asked(regions=HALVES, region_bootstrap=0.5)
    with torch.inference_mode():
        one, same = (Grounds.of(model, recipe, initial_noise(4, 18, 40, 5)[0]) for _ in range(2))
        other = Grounds.of(model, replace(recipe, seed=6), initial_noise(4, 18, 40, 6)[0])
    assert one
    assert same
    assert other
    assert torch.equal(one.latents, same.latents)
    assert not torch.equal(one.latents, other.latents)
    assert len({tuple(picture.flatten().tolist()) for picture in one.latents}) == len(one.latents)
    assert Grounds.of(model, replace(recipe, region_bootstrap=0.0), one.noise) is None
    assert Grounds.of(model, replace(recipe, regions=()), one.noise) is None


def test_pixels_become_the_latents_that_diffusers_gives(xl: StableDiffusion) -> None:
    pixels = torch.rand(2, 3, 64, 96) * 2 - 1
    with torch.inference_mode():
        theirs = xl.vae.encode(pixels).latent_dist.mean * xl.vae.config.scaling_factor
        torch.testing.assert_close(xl.encode_pixels(pixels), theirs)


# The whole painting


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
