"""The engine paints what the article's loop and diffusers' panorama pipeline paint, wherever those paint every cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPanoramaPipeline

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.loading import load_model
from engine.paint import paint_latents
from engine.sampler import initial_noise
from recipe.fields import Recipe
from recipe.models import find_model
from testkit.article import article_loop
from testkit.parity import as_published, relative_rms
from testkit.pipelines import pipeline_of

TOLERANCE = 1e-5  # relative RMS, fp32


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_sd)), device="cpu")


@pytest.fixture(scope="module")
def small_views(tiny_model: Path) -> StableDiffusion:
    """The same with views of 16 latents: sixteen times less to do."""
    return load_model(find_model(str(tiny_model)), device="cpu")


@pytest.fixture(scope="module")
def panorama_pipeline(model: StableDiffusion) -> StableDiffusionPanoramaPipeline:
    return pipeline_of(StableDiffusionPanoramaPipeline, as_published(model))


def params(**changes: Any) -> Recipe:
    given = {"prompt": "mountains", "negative_prompt": "people", "width": 1024, "num_inference_steps": 10, "seed": 0}
    return Recipe(**{**given, **changes})


def ours(model: StableDiffusion, wanted: Recipe, view_batch_size: int = 4) -> torch.Tensor:
    with torch.inference_mode():
        conditioning = model.encode(wanted)
        return paint_latents(model, wanted, conditioning=conditioning, batches=MicroBatches(view_batch_size))


def theirs(model: StableDiffusion, wanted: Recipe) -> torch.Tensor:
    with torch.inference_mode():
        return article_loop(as_published(model), wanted, model.encode(wanted))


@pytest.mark.parametrize(
    ("width", "height", "seed", "view_batch_size"),
    [(128, 128, 0, 1), (512, 128, 1, 3), (320, 256, 2, 4), (256, 384, 3, 64)],
    ids=["one view", "a row", "rows and columns", "all views in one call"],
)
@pytest.mark.parametrize("stride", [8, pytest.param(4, marks=pytest.mark.slow)])
def test_the_articles_loop(
    small_views: StableDiffusion, width: int, height: int, seed: int, view_batch_size: int, stride: int
) -> None:
    wanted = params(width=width, height=height, seed=seed, view_stride=stride)
    assert relative_rms(ours(small_views, wanted, view_batch_size), theirs(small_views, wanted)) <= TOLERANCE


@pytest.mark.slow
def test_the_articles_loop_with_its_own_views_of_64_latents(model: StableDiffusion) -> None:
    wanted = params(width=704, height=576, seed=5)
    assert relative_rms(ours(model, wanted), theirs(model, wanted)) <= TOLERANCE


@pytest.mark.slow
def test_the_articles_loop_after_all_of_its_fifty_steps(small_views: StableDiffusion) -> None:
    wanted = params(width=512, height=128, num_inference_steps=50, seed=4)
    assert relative_rms(ours(small_views, wanted), theirs(small_views, wanted)) <= TOLERANCE


def test_a_width_that_the_article_leaves_unpainted_is_painted_to_its_edge(small_views: StableDiffusion) -> None:
    wanted = params(width=248, height=128)
    assert bool((theirs(small_views, wanted)[..., -7:] == 0).all()), "the article's flaw"
    painted = ours(small_views, wanted)
    assert 0.5 < float(painted[..., -7:].std() / painted[..., :-7].std()) < 2, "mended: its edge is like its middle"


@pytest.mark.parametrize(
    ("width", "seed", "view_batch_size", "circular"),
    [(640, 5, 1, False), (704, 6, 4, False), pytest.param(576, 7, 4, True, marks=pytest.mark.slow)],
    ids=["a view a call", "many views a call", "circular"],
)
def test_diffusers_panorama_pipeline(
    model: StableDiffusion,
    panorama_pipeline: StableDiffusionPanoramaPipeline,
    width: int,
    seed: int,
    view_batch_size: int,
    circular: bool,
) -> None:
    wanted = params(width=width, seed=seed, circular=circular)
    noise, _ = initial_noise(4, 64, width // 8, seed)
    latents = panorama_pipeline(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        width=width,
        height=512,
        num_inference_steps=wanted.num_inference_steps,
        guidance_scale=wanted.guidance_scale,
        view_batch_size=view_batch_size,
        circular_padding=circular,
        latents=noise,
        output_type="latent",
    ).images
    assert relative_rms(ours(model, wanted, view_batch_size), latents) <= TOLERANCE


def test_the_size_of_the_micro_batches_changes_nothing(small_views: StableDiffusion) -> None:
    painted = [ours(small_views, params(height=128), size) for size in (1, 2, 5, 15)]
    assert all(relative_rms(other, painted[0]) <= TOLERANCE for other in painted[1:])
