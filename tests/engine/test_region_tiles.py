"""Masks of regions, the views that are computed for them, and the cost that is foreseen."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.regions import fusion_plan
from engine.loading import load_model
from engine.paint import paint_latents
from engine.tiles import Rows
from recipe.cost import network_samples
from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.models import find_model
from recipe.regions import Region
from recipe.schedulers import SCHEDULERS
from testkit.parity import relative_rms
from testkit.quirky import build, unet
from testkit.regions import HALVES, SMALL, asked, masks_of, ours

TOLERANCE = 1e-5  # relative RMS, fp32


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_model)), device="cpu")


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
