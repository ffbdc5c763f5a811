"""Plain grounds behind regions in the first steps: their noise, their colours, and where they are seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.grounds import Grounds, levels
from engine.inputs.regions import fusion_plan
from engine.loading import load_model
from engine.sampler import initial_noise
from engine.schedulers import make_scheduler
from recipe.models import find_model
from recipe.schedulers import SCHEDULERS
from testkit.regions import HALVES, asked
from testkit.tiny import SCALED_LINEAR, build_tiny_xl


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_model)), device="cpu")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    return load_model(find_model(str(build_tiny_xl(tmp_path_factory.mktemp("xl")))), device="cpu")


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
