"""A model loaded and painting: what it refuses, that a seed is one picture, that a step can end it, that it wraps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from engine import decoder
from engine.errors import BadPicture, Interrupted
from engine.loading import load_model
from engine.paint import paint, to_pixels
from recipe.errors import ModelError
from recipe.fields import Recipe
from recipe.models import find_model


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


def test_a_folder_that_is_no_stable_diffusion_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match="FluxPipeline"):
        load_model(find_model(str(tmp_path)), device="cpu")


def test_a_seed_is_one_picture_and_other_seeds_are_others(tiny_model: Path) -> None:
    model = load_model(find_model(str(tiny_model)), device="cpu")

    def pixels(seed: int) -> bytes:
        params = Recipe(prompt="a", width=192, height=128, num_inference_steps=2, seed=seed)
        return paint(model, params).pixels.tobytes()

    assert pixels(1) == pixels(1)
    assert pixels(1) != pixels(2)


def test_a_step_callback_can_end_the_painting(tiny_model: Path) -> None:
    model = load_model(find_model(str(tiny_model)), device="cpu")
    seen: list[int] = []

    def on_step(step: int, total: int, _canvas: torch.Tensor) -> None:
        seen.append(step)
        if step == 2:
            raise Interrupted("enough")

    params = Recipe(prompt="a", width=128, height=128, num_inference_steps=5)
    with pytest.raises(Interrupted):
        paint(model, params, on_step=on_step)
    assert seen == [1, 2]


def test_a_circular_decode_rolls_with_its_latents_and_a_plain_one_does_not(tiny_model: Path) -> None:
    vae = load_model(find_model(str(tiny_model)), device="cpu").vae
    latents = torch.randn(1, 4, 16, 40)

    def wrapped(latents: torch.Tensor) -> torch.Tensor:
        return decoder.decode(vae.decoder, latents, circular=True, strip_elements=4 * 16 * 8 * 24)

    with torch.inference_mode():
        picture, rolled = wrapped(latents), wrapped(latents.roll(13, -1))
        plain, plain_rolled = vae.decoder(latents), vae.decoder(latents.roll(13, -1))
    assert float((rolled - picture.roll(13 * 8, -1)).abs().max()) < 1e-4
    assert float((plain_rolled - plain.roll(13 * 8, -1)).abs().max()) > 1e-2


def test_padding_the_latents_by_eight_columns_as_diffusers_does_is_not_exact(tiny_model: Path) -> None:
    vae = load_model(find_model(str(tiny_model)), device="cpu").vae

    def padded(latents: torch.Tensor) -> torch.Tensor:
        return vae.decoder(F.pad(latents, (8, 8, 0, 0), mode="circular"))[..., 64:-64]

    latents = torch.randn(1, 4, 16, 40)
    with torch.inference_mode():
        difference = padded(latents.roll(13, -1)) - padded(latents).roll(13 * 8, -1)
    assert float(difference.abs().max()) > 1e-3


@pytest.mark.parametrize("strip_elements", [1, 4 * 16 * 8 * 24, 1 << 30], ids=["8 columns", "24 columns", "whole"])
def test_a_decode_in_strips_is_the_decode_of_the_whole(tiny_model: Path, strip_elements: int) -> None:
    vae = load_model(find_model(str(tiny_model)), device="cpu").vae
    latents = torch.randn(1, 4, 24, 45)
    with torch.inference_mode():
        striped = decoder.decode(vae.decoder, latents, strip_elements=strip_elements)
        whole = vae.double().decoder(latents.double())  # in fp32, torch's own GroupNorm is less exact than the strips
    assert float((striped - whole).abs().max()) < 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_what_is_no_picture_is_never_handed_out(value: float) -> None:
    with pytest.raises(BadPicture):
        to_pixels(torch.full((1, 3, 16, 16), value))
