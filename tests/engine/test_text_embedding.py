"""Embeddings of prompts: skipped layers as in diffusers, weights and chunks, on tiny models of both families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.text import Conditioning, weigh
from engine.loading import load_model
from engine.paint import paint, paint_latents
from recipe.errors import ModelError, RecipeError
from recipe.fields import Recipe
from recipe.models import find_model, parse_models
from recipe.request import resolve
from testkit.clip import encoded, with_text_layers
from testkit.parity import difference_from_diffusers, painted_latents, relative_rms
from testkit.tiny import build_tiny_model, build_tiny_xl

BUILDERS: dict[str, Callable[..., Path]] = {"sd": build_tiny_model, "xl": build_tiny_xl}


@pytest.fixture(scope="module", params=BUILDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose text encoders have five layers."""
    built = BUILDERS[request.param](tmp_path_factory.mktemp(request.param) / "model", window=16)
    return with_text_layers(built, 5)


@pytest.fixture(scope="module")
def model(folder: Path) -> StableDiffusion:
    return load_model(find_model(str(folder)), device="cpu")


@pytest.mark.parametrize("clip_skip", [0, 1, 2, 3])
def test_skipped_layers_are_those_of_diffusers(folder: Path, model: StableDiffusion, clip_skip: int) -> None:
    latents, _ = difference_from_diffusers(folder, {"clip_skip": clip_skip})
    assert latents <= 1e-5
    if clip_skip:
        changed = painted_latents(model, {"clip_skip": clip_skip})
        assert relative_rms(changed, painted_latents(model, {})) > 1e-4


def test_no_skipped_layer_is_what_was_painted_before(model: StableDiffusion) -> None:
    assert torch.equal(painted_latents(model, {"clip_skip": 0}), painted_latents(model, {"clip_skip": None}))


def test_a_skip_that_leaves_no_layer_is_refused_before_anything_is_encoded(model: StableDiffusion) -> None:
    most = 4 if len(model.text.models) == 1 else 3
    assert model.facts.max_clip_skip == model.text.max_clip_skip == most
    painted_latents(model, {"clip_skip": most})
    for refuse in (
        lambda: resolve({"prompt": "hills", "clip_skip": most + 1}, model.spec),
        lambda: encoded(model, "hills", clip_skip=most + 1),
    ):
        with pytest.raises(RecipeError) as refused:
            refuse()
        (error,) = refused.value.errors
        assert error.field == "clip_skip"
        assert str(most) in error.detail


def test_a_models_entry_has_a_clip_skip_of_its_own(folder: Path) -> None:
    spec = parse_models(f'{{"mine": {{"source": "{folder}", "clip_skip": 2}}}}')["mine"]
    assert resolve({"prompt": "hills"}, spec).clip_skip == 2
    assert resolve({"prompt": "hills", "clip_skip": 0}, spec).clip_skip == 0
    with pytest.raises(ModelError, match="model 'mine': clip_skip must be at most"):
        replace(spec, clip_skip=9).facts()


def test_a1111_syntax_skips_layers_for_the_negative_prompt_too(model: StableDiffusion) -> None:
    plain, a1111 = (encoded(model, "hills", "people", syntax, clip_skip=1) for syntax in ("plain", "a1111"))
    assert torch.equal(plain.positive.states, a1111.positive.states)
    assert torch.equal(plain.negative.states, encoded(model, "hills", "people").negative.states)
    assert torch.equal(a1111.negative.states, encoded(model, "people", clip_skip=1).positive.states)


def test_weights_multiply_the_states_and_the_mean_is_restored() -> None:
    states = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    weighted = weigh(states, [1.0, 2.0, 0.5, 1.0])
    quotient = weighted / states
    assert quotient[0, 1].mean() / quotient[0, 0].mean() == pytest.approx(2.0, rel=1e-5)
    assert quotient[0, 2].mean() / quotient[0, 3].mean() == pytest.approx(0.5, rel=1e-5)
    assert float(weighted.mean()) == pytest.approx(float(states.mean()), rel=1e-5)


def test_a_mean_that_is_nothing_but_rounding_is_not_restored() -> None:
    states = torch.nn.functional.layer_norm(torch.randn(1, 4, 512), (512,))
    assert torch.equal(weigh(states, [1.0, 2.0, 1.0, 1.0])[0, 1], 2.0 * states[0, 1])


def test_weights_are_applied_to_each_encoder_by_itself(model: StableDiffusion) -> None:
    plain, heavy = (encoded(model, text, syntax="a1111").positive.states for text in ("a hill", "a (hill:1.5)"))
    weights = [1.0, 1.0, 1.5, 1.5, 1.5, 1.5, *[1.0] * 71]  # one token a letter
    sizes = [encoder.config.hidden_size for encoder in model.text.models]
    expected = torch.cat([weigh(part, weights) for part in plain.split(sizes, -1)], -1)
    assert relative_rms(heavy, expected) <= 1e-6
    assert relative_rms(heavy, plain) > 1e-2


def test_16_bits_keep_their_type(folder: Path) -> None:
    model = load_model(find_model(str(folder)), device="cpu", dtype="bfloat16")
    conditioning = encoded(model, "a (hill:1.5) BREAK lake", "[people]", "a1111")
    assert conditioning.positive.states.dtype == conditioning.negative.states.dtype == torch.bfloat16


def test_long_weighted_prompts_paint_what_diffusers_paints_with_the_same_embeddings(
    folder: Path, model: StableDiffusion
) -> None:
    recipe = resolve(
        {
            "prompt": "(hills:1.4) BREAK a lake",
            "negative_prompt": "[people]",
            "prompt_syntax": "a1111",
            "width": 128,
            "height": 128,
            "seed": 3,
            "num_inference_steps": 12,
            "guidance_scale": 7.5,
            "scheduler": "ddim",
        },
        model.spec,
    )
    with torch.inference_mode():
        texts = model.encode(recipe)
        ours = paint_latents(model, recipe, conditioning=texts, batches=MicroBatches(4))
    assert texts.positive.states.shape[1] == 154
    assert relative_rms(ours, _diffusers(folder, model, recipe, texts)) <= 1e-5


def _diffusers(folder: Path, model: StableDiffusion, recipe: Recipe, texts: Conditioning) -> torch.Tensor:
    xl = len(model.text.models) > 1
    pipeline: Any = (StableDiffusionXLPipeline if xl else StableDiffusionPipeline).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(model.facts.schedule)
    pooled = {"pooled_prompt_embeds": texts.positive.pooled, "negative_pooled_prompt_embeds": texts.negative.pooled}
    return pipeline(
        prompt_embeds=texts.positive.states,
        negative_prompt_embeds=texts.negative.states,
        **(pooled if xl else {}),
        width=recipe.width,
        height=recipe.height,
        num_inference_steps=recipe.num_inference_steps,
        guidance_scale=recipe.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(recipe.seed),
        output_type="latent",
    ).images


def test_a_panorama_of_several_chunks_is_painted_by_the_loaded_network_and_tells_what_it_left_out(
    model: StableDiffusion,
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a compiled network would be compiled again for this length")

    request = {"prompt": "hills BREAK <lora:x:1> lake", "prompt_syntax": "a1111", "width": 256, "height": 128}
    recipe = resolve({**request, "num_inference_steps": 2, "seed": 1, "view_stride": 4}, model.spec)
    panorama = paint(replace(model, compiled_unet=never), recipe)
    assert panorama.pixels.shape == (128, 256, 3)
    assert [notice.code for notice in panorama.notices] == ["prompt-syntax-ignored"]
    with pytest.raises(AssertionError, match="compiled"):
        paint(replace(model, compiled_unet=never), replace(recipe, prompt="hills"))
