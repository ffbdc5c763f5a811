"""The catalog: an allow-list of models by name, with each model's own defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipe.errors import ModelError
from recipe.facts import ModelFacts
from recipe.models import BUILTIN, find_model, parse_models


def test_a_list_keeps_its_order_and_its_names(tmp_path: Path) -> None:
    models = parse_models(f"2.1, mine={tmp_path}, other=owner/name@abc")
    assert list(models) == ["2.1", "mine", "other"]
    assert models["mine"].path == tmp_path
    assert (models["other"].source, models["other"].revision) == ("owner/name", "abc")
    assert [spec.name for spec in models.values()] == list(models)


def test_a_model_may_have_defaults_of_its_own(tiny_model: Path) -> None:
    listed = {"mine": {"source": str(tiny_model), "num_inference_steps": 25, "scheduler": "unipc"}, "1.5": {}}
    models = parse_models(json.dumps(listed))
    defaults = models["mine"].defaults
    assert (defaults["num_inference_steps"], defaults["scheduler"]) == (25, "unipc")
    assert (defaults["guidance_scale"], defaults["view_stride"]) == (7.5, 8), "the others are the original's"
    assert models["1.5"] == BUILTIN["1.5"]


@pytest.mark.parametrize("text", ["", " , ", "nonsense", '{"mine": {"weights": 1}}', '{"mine": 3}', "{"])
def test_a_list_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        parse_models(text)


def test_stable_diffusions_revisions_are_pinned_where_the_mirrors_moved() -> None:
    assert all(BUILTIN[name].revision for name in ("2.0", "2.1"))


def test_sizes_come_from_the_models_own_configuration(tiny_model: Path) -> None:
    assert find_model(str(tiny_model)).facts() == ModelFacts(window=16, latent_factor=8, max_clip_skip=1)
    assert BUILTIN["2.0"].facts() == ModelFacts(window=64, latent_factor=8, max_clip_skip=22)


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="component layout"):
        find_model(str(tmp_path)).facts()
