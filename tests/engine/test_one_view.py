"""One view is plain Stable Diffusion: whatever the scheduler, the latents are those of diffusers' own pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.guidance import Guidance
from engine.loading import load_model
from engine.paint import paint, paint_latents
from engine.schedulers import make_scheduler
from engine.tiles import Tile
from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.models import BUILTIN, find_model
from recipe.presets import PRESETS
from recipe.schedulers import SCHEDULERS
from recipe.views import View
from testkit.parity import as_published, relative_rms
from testkit.pipelines import pipeline_of
from testkit.tiny import SCALED_LINEAR, build_tiny_xl

TOLERANCE = 1e-5  # relative RMS, fp32
STEPS = 10  # with fewer, steps are spaced from the last timestep on


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_model)), device="cpu")


@pytest.fixture(scope="module")
def pipeline(model: StableDiffusion) -> StableDiffusionPipeline:
    return pipeline_of(StableDiffusionPipeline, as_published(model))


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    return load_model(find_model(str(build_tiny_xl(tmp_path_factory.mktemp("xl")))), device="cpu")


def params(**changes: Any) -> Recipe:
    given = {"prompt": "hills", "negative_prompt": "people", "width": 128, "height": 128, "num_inference_steps": STEPS}
    return Recipe(**{**given, "seed": 3, **changes})


def ours(model: StableDiffusion, wanted: Recipe) -> torch.Tensor:
    with torch.inference_mode():
        conditioning = model.encode(wanted)
        return paint_latents(model, wanted, conditioning=conditioning, batches=MicroBatches(4))


def theirs(pipeline: Any, wanted: Recipe, scheduler_config: dict[str, Any], **options: Any) -> torch.Tensor:
    pipeline.scheduler = make_scheduler(wanted.scheduler, scheduler_config, STEPS, seed=wanted.seed)
    return pipeline(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt or None,
        width=wanted.width,
        height=wanted.height,
        num_inference_steps=wanted.num_inference_steps,
        guidance_scale=wanted.guidance_scale,
        guidance_rescale=wanted.guidance_rescale,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        output_type="latent",
        **options,
    ).images


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_stable_diffusion(model: StableDiffusion, pipeline: StableDiffusionPipeline, scheduler: str) -> None:
    wanted = params(scheduler=scheduler)
    options = {"eta": 0.3} if scheduler == "tcd" else {}  # its own default, which the pipeline would overrule
    expected = theirs(pipeline, wanted, model.facts.schedule, **options)
    assert relative_rms(ours(model, wanted), expected) <= TOLERANCE


@pytest.mark.parametrize("guidance_rescale", [0.3, 1.0])
def test_guidance_that_may_not_raise_the_contrast(
    model: StableDiffusion, pipeline: StableDiffusionPipeline, guidance_rescale: float
) -> None:
    wanted = params(guidance_rescale=guidance_rescale)
    assert relative_rms(ours(model, wanted), theirs(pipeline, wanted, model.facts.schedule)) <= TOLERANCE
    assert relative_rms(ours(model, wanted), ours(model, params())) > 1e-3


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m", "heun"])
def test_every_kind_of_prediction(scheduler: str, prediction_type: str) -> None:
    config = {**SCALED_LINEAR, "prediction_type": prediction_type, "clip_sample": False, "steps_offset": 1}
    one, two = (make_scheduler(scheduler, config, STEPS) for _ in range(2))
    # The prediction of a model that knows its sample: whatever kind it says, the solver must arrive there.
    sample, canvas = torch.full((1, 4, 8, 8), 0.5), torch.randn(1, 4, 8, 8) * float(two.init_noise_sigma)
    for timestep in one.timesteps:
        told = predicted(one, canvas, sample, timestep)
        canvas = one.step(told, timestep, canvas, return_dict=False)[0]
    assert float((canvas - sample).abs().max()) < 0.05


def predicted(scheduler: Any, canvas: torch.Tensor, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """What a perfect model of the scheduler's kind says of `canvas`."""
    alpha = scheduler.alphas_cumprod[int(timestep)] ** 0.5
    sigma = (1 - alpha**2) ** 0.5
    scaled = scheduler.scale_model_input(canvas, timestep)
    noise = (scaled - alpha * sample) / sigma
    kinds = {"epsilon": noise, "sample": sample, "v_prediction": alpha * noise - sigma * sample}
    return kinds[scheduler.config.prediction_type]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_model_of_zero_terminal_snr_keeps_its_noise_levels(scheduler: str) -> None:
    config = {**SCALED_LINEAR, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "clip_sample": False}
    config["timestep_spacing"] = "trailing"
    rescaled = make_scheduler("ddim", config, STEPS).alphas_cumprod
    alphas = make_scheduler(scheduler, config, STEPS).alphas_cumprod
    middle = slice(0, 900)
    torch.testing.assert_close(alphas[middle], rescaled[middle], rtol=1e-3, atol=1e-6)
    assert 0 <= float(alphas[-1]) < 2e-4


@pytest.mark.parametrize("negative_prompt", ["", "people"])
def test_stable_diffusion_xl(xl: StableDiffusion, negative_prompt: str) -> None:
    pipeline = StableDiffusionXLPipeline(
        vae=xl.vae,
        text_encoder=xl.text.models[0],
        text_encoder_2=xl.text.models[1],
        tokenizer=xl.text.tokenizers[0],
        tokenizer_2=xl.text.tokenizers[1],
        unet=as_published(xl).unet,
        scheduler=make_scheduler("euler", xl.facts.schedule, 1),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    wanted = params(scheduler="euler", negative_prompt=negative_prompt)
    assert relative_rms(ours(xl, wanted), theirs(pipeline, wanted, xl.facts.schedule)) <= TOLERANCE


def test_sdxl_is_told_where_each_view_lies(xl: StableDiffusion) -> None:
    tiles = [Tile(view, torch.ones(())) for view in (View(0, 16, 0, 16), View(8, 24, 40, 56))]
    guidance = Guidance(xl.encode(Recipe(prompt="hills")), 2.0)
    added = xl.added_conditions(guidance.rows(torch.zeros(2, 4, 16, 16), tiles, (24, 56)))
    assert added is not None
    assert added["time_ids"].tolist() == [[192, 448, 0, 0, 128, 128], [192, 448, 64, 320, 128, 128]] * 2


def test_sdxl_paints_a_panorama(xl: StableDiffusion) -> None:
    painted = paint(xl, params(width=256, height=192, scheduler="euler", num_inference_steps=2))
    assert painted.pixels.shape == (192, 256, 3)


def test_a_half_precision_sdxl_decodes_in_full_precision(tmp_path: Path) -> None:
    half = load_model(find_model(str(build_tiny_xl(tmp_path))), device="cpu", dtype="float16")
    assert half.decode(torch.randn(1, 4, 16, 16)).isfinite().all()
    assert half.vae.dtype == torch.float16


def test_guidance_outside_its_interval_is_none(model: StableDiffusion) -> None:
    nowhere = ours(model, params(guidance_start=0.0, guidance_end=0.0))
    assert relative_rms(nowhere, ours(model, params(guidance_scale=1.0))) <= TOLERANCE
    part = ours(model, params(guidance_end=0.5))
    assert min(relative_rms(part, nowhere), relative_rms(part, ours(model, params()))) > 1e-3


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_paints_with_views_that_leave_no_gap(model: StableDiffusion, preset: str) -> None:
    for window in (16, 64, 96, 128):
        values = PRESETS[preset].values(ModelFacts(window=window))
        params(width=window * 8, height=window * 8, **values).check_fits(ModelFacts(window=window))
    wanted = params(width=296, **{**PRESETS[preset].values(model.facts), "num_inference_steps": 2})
    assert paint(model, wanted).pixels.shape == (128, 296, 3)


@pytest.fixture(scope="module")
def demo() -> StableDiffusion:
    return load_model(BUILTIN["demo"], device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_paints_a_sane_picture_with_the_demo_model(demo: StableDiffusion, scheduler: str) -> None:
    """A bright sky above dark land, and neither noise nor a flat colour."""
    values = {**demo.spec.defaults, "scheduler": scheduler, "num_inference_steps": 8}
    wanted = Recipe(prompt="mountains in the morning, clear sky", width=512, height=512, seed=1, **values)
    pixels = torch.from_numpy(paint(demo, wanted).pixels.copy()).float().mean(-1)
    neighbours = float(pixels.diff(dim=1).abs().mean())
    assert float(pixels[:128].mean()) > float(pixels[-128:].mean()) + 10, "the sky is brighter than the ground"
    assert float(pixels.std()) > 15
    assert neighbours < 6, "smooth, as no noise is"
