"""The engine paints what the article's code and diffusers' panorama pipeline paint, where those paint every pixel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPanoramaPipeline

from engine.catalog import find_model
from engine.loading import load_model
from engine.model import StableDiffusion
from engine.paint import paint_latents
from engine.params import PanoramaParams
from engine.sampler import initial_noise

TOLERANCE = 1e-5  # relative RMS, fp32


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> StableDiffusion:
    """Views of 64 latents, as Stable Diffusion's."""
    return load_model(find_model(str(tiny_sd)), device="cpu")


@pytest.fixture(scope="module")
def small(tiny_model: Path) -> StableDiffusion:
    """Views of 16 latents: the same mathematics, sixteen times cheaper."""
    return load_model(find_model(str(tiny_model)), device="cpu")


def params(**changes: object) -> PanoramaParams:
    given = {
        "prompt": "mountains",
        "negative_prompt": "people",
        "width": 512,
        "height": 512,
        "num_inference_steps": 3,
        "seed": 0,
    }
    return PanoramaParams(**{**given, **changes})  # type: ignore[arg-type]


def ours(model: StableDiffusion, wanted: PanoramaParams, view_batch_size: int = 4) -> torch.Tensor:
    with torch.inference_mode():
        conditioning = model.encode(wanted.prompt, wanted.negative_prompt)
        return paint_latents(
            model, wanted, conditioning=conditioning, view_batch_size=view_batch_size, on_step=lambda *_: None
        )


def views_of_the_article(height: int, width: int, window: int, stride: int = 8) -> list[tuple[int, int, int, int]]:
    """The article's `get_views`, its floored counts included; sizes are latent cells."""
    down, across = (height - window) // stride + 1, (width - window) // stride + 1
    return [
        (i * stride, i * stride + window, j * stride, j * stride + window) for i in range(down) for j in range(across)
    ]


@torch.inference_mode()
def loop_of_the_article(model: StableDiffusion, wanted: PanoramaParams) -> torch.Tensor:
    """The article's loop, literally: one view at a time, the scheduler steps each view, then values over counts."""
    height, width = wanted.height // 8, wanted.width // 8
    latent, _ = initial_noise(4, height, width, wanted.seed)
    conditioning = model.encode(wanted.prompt, wanted.negative_prompt)
    text_embeds = torch.cat([conditioning.negative, conditioning.positive])
    scheduler = DDIMScheduler.from_config(model.scheduler_config)
    scheduler.set_timesteps(wanted.num_inference_steps)
    count, value = torch.zeros_like(latent), torch.zeros_like(latent)
    for t in scheduler.timesteps:
        count.zero_()
        value.zero_()
        for h_start, h_end, w_start, w_end in views_of_the_article(height, width, model.geometry.window):
            latent_view = latent[:, :, h_start:h_end, w_start:w_end]
            noise_pred = model.unet(torch.cat([latent_view] * 2), t, encoder_hidden_states=text_embeds)["sample"]
            uncond, cond = noise_pred.chunk(2)
            noise_pred = uncond + wanted.guidance_scale * (cond - uncond)
            stepped = scheduler.step(noise_pred, t, latent_view)["prev_sample"]
            value[:, :, h_start:h_end, w_start:w_end] += stepped
            count[:, :, h_start:h_end, w_start:w_end] += 1
        latent = torch.where(count > 0, value / count, value)
    return latent


def relative_rms(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


@pytest.mark.parametrize(
    ("width", "height", "seed", "view_batch_size"),
    [(128, 128, 0, 1), (512, 128, 1, 3), (320, 256, 2, 4), (192, 320, 3, 64)],
    ids=["one view", "a row", "rows and columns", "all views in one call"],
)
def test_the_articles_loop(small: StableDiffusion, width: int, height: int, seed: int, view_batch_size: int) -> None:
    wanted = params(width=width, height=height, seed=seed)
    assert relative_rms(ours(small, wanted, view_batch_size), loop_of_the_article(small, wanted)) <= TOLERANCE


def test_the_articles_loop_with_views_of_512_pixels(model: StableDiffusion) -> None:
    wanted = params(width=640)
    assert relative_rms(ours(model, wanted), loop_of_the_article(model, wanted)) <= TOLERANCE


def test_the_articles_loop_after_all_of_its_fifty_steps(small: StableDiffusion) -> None:
    wanted = params(width=256, height=128, num_inference_steps=50, seed=4)
    assert relative_rms(ours(small, wanted), loop_of_the_article(small, wanted)) <= TOLERANCE


def test_a_width_that_the_article_leaves_unpainted_is_painted_to_its_edge(small: StableDiffusion) -> None:
    wanted = params(width=184, height=128)
    theirs, painted = loop_of_the_article(small, wanted), ours(small, wanted)
    assert bool((theirs[..., -7:] == 0).all()), "the flaw"
    assert float(painted[..., -7:].std()) > 0.1, "mended"


@pytest.mark.parametrize(
    ("width", "seed", "view_batch_size", "circular"),
    [(640, 5, 1, False), (768, 6, 8, False), (640, 7, 4, True)],
    ids=["a view a call", "many views a call", "circular"],
)
def test_diffusers_panorama_pipeline(
    model: StableDiffusion, width: int, seed: int, view_batch_size: int, circular: bool
) -> None:
    wanted = params(width=width, seed=seed, circular=circular)
    noise, _ = initial_noise(4, 64, width // 8, seed)
    theirs = _pipeline(model)(
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
    assert relative_rms(ours(model, wanted, view_batch_size), theirs) <= TOLERANCE


def test_the_size_of_the_micro_batches_changes_nothing(small: StableDiffusion) -> None:
    painted = [ours(small, params(height=128), size) for size in (1, 2, 5, 9)]
    assert all(relative_rms(other, painted[0]) <= TOLERANCE for other in painted[1:])


def _pipeline(model: StableDiffusion) -> StableDiffusionPanoramaPipeline:
    pipeline = StableDiffusionPanoramaPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler.from_config(model.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
