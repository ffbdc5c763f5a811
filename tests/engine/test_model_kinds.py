"""Kinds of models that users have: painted as diffusers' own pipeline does at one view, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.loading import load_model
from recipe.errors import ModelError
from recipe.models import find_model
from testkit.model_kinds import PAINTED, REFUSED, Kind
from testkit.parity import difference_from_diffusers, painted_latents
from testkit.quirky import build


@pytest.mark.parametrize("kind", PAINTED, ids=lambda kind: kind.name)
def test_a_kind_is_painted_as_diffusers_does(kind: Kind, tmp_path: Path) -> None:
    folder = build(tmp_path / "model", *kind.changes, xl=kind.xl)
    latents, pixels = difference_from_diffusers(folder, kind.request)
    assert latents <= 1e-5
    assert pixels <= 1


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.name)
def test_a_kind_is_refused_with_the_reason(kind: Kind, tmp_path: Path) -> None:
    folder = build(tmp_path / "model", *kind.changes, xl=kind.xl)
    with pytest.raises(ModelError) as refused:
        load_model(find_model(str(folder)), device="cpu")
    assert kind.refused in str(refused.value)


def test_a_scale_of_one_or_less_costs_one_sample_a_view(tiny_model: Path) -> None:
    model = load_model(find_model(str(tiny_model)), device="cpu")
    samples = []
    model.unet.register_forward_pre_hook(lambda _module, args: samples.append(len(args[0])))
    for scale, expected in ((0.0, 1), (1.0, 1), (1.5, 2)):
        samples.clear()
        painted_latents(model, {"guidance_scale": scale})
        assert set(samples) == {expected}
