"""From a request to a recipe: what is left out comes from the preset, the model's entry, its files, in that order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recipe.errors import ModelError, RecipeError
from recipe.fields import FIELDS, Recipe
from recipe.models import ModelSpec, parse_models
from recipe.request import REQUEST_FIELDS, resolve
from testkit.quirky import build, edited, scheduler, unet

ASKED = {"prompt": "hills"}


def spec(folder: Path, **entry: Any) -> ModelSpec:
    return ModelSpec(name="mine", source=str(folder), **entry)


def test_a_request_that_says_nothing_gets_the_models_own_size(tmp_path: Path) -> None:
    painted = resolve(ASKED, spec(build(tmp_path / "xl", xl=True)))
    assert (painted.width, painted.height) == (4 * 128, 128)
    bounded = resolve(ASKED, spec(tmp_path / "xl"), max_width=300)
    assert (bounded.width, bounded.height) == (296, 128)


def test_defaults_are_those_of_the_kind_of_model(tmp_path: Path) -> None:
    plain = resolve(ASKED, spec(build(tmp_path / "plain")))
    assert (plain.scheduler, plain.num_inference_steps, plain.guidance_scale) == ("ddim", 50, 7.5)
    xl = resolve(ASKED, spec(build(tmp_path / "xl", xl=True)))
    assert (xl.scheduler, xl.guidance_scale) == ("euler", 5.0)
    turbo = build(tmp_path / "sd-turbo", scheduler("EulerAncestralDiscreteScheduler", timestep_spacing="trailing"))
    few = resolve(ASKED, spec(turbo))
    assert (few.scheduler, few.num_inference_steps, few.guidance_scale) == ("euler_a", 4, 1.0)
    distilled = resolve(ASKED, spec(build(tmp_path / "distilled", unet(time_cond_proj_dim=16))))
    assert (distilled.scheduler, distilled.num_inference_steps, distilled.guidance_scale) == ("lcm", 4, 8.5)


def test_the_entrys_own_defaults_win_over_the_files_and_the_request_over_all(tmp_path: Path) -> None:
    entry = spec(build(tmp_path / "plain"), num_inference_steps=20, view_weights="gaussian")
    assert resolve(ASKED, entry).num_inference_steps == 20
    assert resolve({**ASKED, "preset": "draft"}, entry).num_inference_steps == 10
    assert resolve({**ASKED, "preset": "draft", "num_inference_steps": 7}, entry).num_inference_steps == 7
    assert resolve(ASKED, entry).view_weights == "gaussian"


def test_weights_that_are_left_out_follow_the_stride(tmp_path: Path) -> None:
    model = spec(build(tmp_path / "plain", edited("unet/config.json", sample_size=64)))
    assert resolve({**ASKED, "view_stride": 16}, model).view_weights == "uniform"
    assert resolve({**ASKED, "view_stride": 24}, model).view_weights == "hann"
    assert resolve({**ASKED, "view_stride": 24, "view_weights": "uniform"}, model).view_weights == "uniform"


def test_a_seed_of_minus_one_is_drawn(tmp_path: Path) -> None:
    model = spec(build(tmp_path / "plain"))
    drawn = {resolve({**ASKED, "seed": seed}, model).seed for seed in (-1, None, -1)}
    assert len(drawn) == 3
    assert min(drawn) >= 0
    with pytest.raises(RecipeError):
        resolve({**ASKED, "seed": -2}, model)


def test_overrides_of_an_entry_replace_the_scheduler_configuration(tmp_path: Path) -> None:
    folder = build(tmp_path / "plain")
    changed = spec(folder, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    assert changed.facts().schedule["prediction_type"] == "v_prediction"
    assert (
        "rescale_betas_zero_snr" not in spec(folder).facts().schedule
        or not spec(folder).facts().schedule["rescale_betas_zero_snr"]
    )


@pytest.mark.parametrize(
    "entry",
    [
        '{"a": {"source": "/tmp", "prediction_type": "magic"}}',
        '{"a": {"source": "/tmp", "scheduler": "magic"}}',
        '{"a": {"source": "/tmp", "num_inference_steps": 0}}',
        '{"a": {"source": "/tmp", "num_inference_steps": "20"}}',
        '{"a": {"source": "/tmp", "guidance_scale": 1000}}',
        '{"a": {"source": "/tmp", "rescale_betas_zero_snr": 1}}',
    ],
)
def test_an_entry_that_says_nonsense_is_refused_when_it_is_read(entry: str) -> None:
    with pytest.raises(ModelError):
        parse_models(entry)


def test_the_table_holds_every_field_of_a_recipe_and_the_request_adds_two() -> None:
    assert set(REQUEST_FIELDS) - set(FIELDS) == {"model", "preset"}
    assert all(spec.help for spec in REQUEST_FIELDS.values())
    assert Recipe(prompt="a").guidance_end == 1.0
