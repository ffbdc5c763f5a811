"""The engine's parts: views that cover, params that refuse, weights that fuse, pictures that carry their recipe."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.catalog import BUILTIN, find_model, parse_models, read_geometry
from engine.circular import circular_decoder
from engine.errors import BadPicture, Interrupted, ModelError, ParamsError
from engine.fusion import plan_fusion, window_weights
from engine.loading import load_model
from engine.paint import paint, to_pixels
from engine.params import VIEW_WEIGHTS, Geometry, PanoramaParams
from engine.picture import encode_png
from engine.views import View, plan_views

WINDOW = 16


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


@settings(derandomize=True, deadline=None)
@given(
    height=st.integers(WINDOW, 90),
    width=st.integers(WINDOW, 200),
    stride=st.integers(1, WINDOW),
    circular=st.booleans(),
)
def test_every_cell_of_every_size_is_covered(height: int, width: int, stride: int, circular: bool) -> None:
    views = plan_views(height, width, WINDOW, stride, circular=circular)
    counts = np.zeros((height, width), int)
    for view in views:
        assert (view.bottom - view.top, view.right - view.left) == (WINDOW, WINDOW)
        assert 0 <= view.top <= height - WINDOW
        columns = np.arange(view.left, view.right)
        assert circular or view.right <= width
        counts[view.top : view.bottom, columns % width] += 1
    assert counts.min() > 0
    assert len(set(views)) == len(views)


def test_where_the_stride_divides_the_canvas_the_views_are_the_articles() -> None:
    assert len(plan_views(64, 256, 64, 8)) == 25
    assert len(plan_views(64, 512, 64, 8)) == 57
    assert len(plan_views(64, 256, 64, 8, circular=True)) == 32
    assert plan_views(64, 80, 64, 8) == (View(0, 64, 0, 64), View(0, 64, 8, 72), View(0, 64, 16, 80))


@pytest.mark.parametrize(("height", "width", "stride"), [(15, 64, 8), (16, 15, 8), (16, 64, 0), (16, 64, 17)])
def test_a_plan_that_would_leave_gaps_is_refused(height: int, width: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"fits|stride"):
        plan_views(height, width, WINDOW, stride)


@pytest.mark.parametrize("kind", VIEW_WEIGHTS)
@pytest.mark.parametrize("window", [16, 64, 128])
def test_weights_are_symmetric_positive_and_single_precision(kind: str, window: int) -> None:
    weights = window_weights(kind, window)
    assert weights.dtype == torch.float32
    assert float(weights.min()) > 0
    assert torch.allclose(weights, weights.flip(0))
    assert torch.allclose(weights, weights.flip(1))
    assert torch.allclose(weights, weights.T)


@pytest.mark.parametrize("kind", VIEW_WEIGHTS)
@pytest.mark.parametrize("circular", [False, True])
def test_fusion_is_a_mean_so_that_views_that_agree_change_nothing(kind: str, circular: bool) -> None:
    canvas = torch.randn(1, 4, 20, 45)
    views = plan_views(20, 45, WINDOW, 5, circular=circular)
    fusion = plan_fusion(views, window_weights(kind, WINDOW), 20, 45, view_batch_size=3)
    assert torch.allclose(fusion(canvas, lambda crops: crops), canvas, atol=1e-5)


def test_a_circular_canvas_is_fused_the_same_wherever_it_is_cut() -> None:
    canvas = torch.randn(1, 4, 16, 48)
    fusion = plan_fusion(
        plan_views(16, 48, 16, 8, circular=True), window_weights("hann", 16), 16, 48, view_batch_size=4
    )

    def predict(crops: torch.Tensor) -> torch.Tensor:
        return crops * torch.linspace(-1, 1, 16)

    rolled = fusion(canvas.roll(8, -1), predict)
    assert torch.allclose(rolled, fusion(canvas, predict).roll(8, -1), atol=1e-5)


def test_params_name_every_field_at_fault() -> None:
    with pytest.raises(ParamsError) as refused:
        PanoramaParams(prompt=" ", guidance_scale=float("nan"), seed=-1, scheduler="magic", num_inference_steps=0)
    named = {error.field for error in refused.value.errors}
    assert named == {"prompt", "guidance_scale", "seed", "scheduler", "num_inference_steps"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"width": 1001}, "width"),
        ({"height": 504}, "height"),
        ({"width": 256}, "width"),
        ({"view_stride": 65}, "view_stride"),
    ],
)
def test_params_that_a_model_cannot_paint_are_refused_before_it_is_loaded(changes: dict[str, int], field: str) -> None:
    with pytest.raises(ParamsError) as refused:
        PanoramaParams(prompt="a", **changes).check_fits(Geometry())  # type: ignore[arg-type]
    assert [error.field for error in refused.value.errors] == [field]


def test_models_are_an_allow_list_of_names() -> None:
    assert list(parse_models("demo, 2.1,mine=owner/name@abc")) == ["demo", "2.1", "mine"]
    mine = parse_models("mine=owner/name@abc")["mine"]
    assert (mine.source, mine.revision, mine.scheduler, mine.num_inference_steps) == ("owner/name", "abc", "ddim", 50)
    own = parse_models('{"quick": {"source": "owner/name", "num_inference_steps": 4, "scheduler": "lcm"}}')["quick"]
    assert (own.num_inference_steps, own.scheduler, own.guidance_scale) == (4, "lcm", 7.5)


@pytest.mark.parametrize("text", ["", " , ", "nonsense", "{", '{"a": 1}', '{"a": {"source": "o/n", "x": 1}}', "[]"])
def test_a_list_of_models_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        parse_models(text)


def test_the_articles_versions_are_there_from_where_they_can_still_be_had() -> None:
    assert {"1.5", "2.0", "2.1", "demo"} <= set(BUILTIN)
    assert all("runwayml" not in spec.source and "stabilityai/stable-diffusion-2" not in spec.source
               for spec in BUILTIN.values())  # fmt: skip


def test_sizes_are_read_from_the_models_configuration(tiny_model: Path, tmp_path: Path) -> None:
    assert read_geometry(tiny_model) == Geometry(window=16, latent_factor=8)
    with pytest.raises(ModelError):
        read_geometry(tmp_path)


def test_a_folder_that_is_no_stable_diffusion_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match="FluxPipeline"):
        load_model(find_model(str(tmp_path)), device="cpu")


def test_a_seed_is_one_picture_and_other_seeds_are_others(tiny_model: Path) -> None:
    model = load_model(find_model(str(tiny_model)), device="cpu")

    def pixels(seed: int) -> bytes:
        params = PanoramaParams(prompt="a", width=192, height=128, num_inference_steps=2, seed=seed)
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

    params = PanoramaParams(prompt="a", width=128, height=128, num_inference_steps=5)
    with pytest.raises(Interrupted):
        paint(model, params, on_step=on_step)
    assert seen == [1, 2]


def test_a_circular_decode_rolls_with_its_latents_and_a_plain_one_does_not(tiny_model: Path) -> None:
    vae = load_model(find_model(str(tiny_model)), device="cpu").vae
    latents = torch.randn(1, 4, 16, 40)
    with torch.inference_mode():
        wrapped = circular_decoder(vae.decoder)
        picture, rolled = wrapped(latents), wrapped(latents.roll(13, -1))
        plain, plain_rolled = vae.decoder(latents), vae.decoder(latents.roll(13, -1))
    assert float((rolled - picture.roll(13 * 8, -1)).abs().max()) < 1e-4
    assert float((plain_rolled - plain.roll(13 * 8, -1)).abs().max()) > 1e-2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_what_is_no_picture_is_never_handed_out(value: float) -> None:
    with pytest.raises(BadPicture):
        to_pixels(torch.full((1, 3, 16, 16), value))


def test_a_png_carries_its_recipe_and_a1111s_parameters() -> None:
    params = PanoramaParams(prompt="montañas, 雪山", negative_prompt="people", width=512, seed=2**53 - 1)
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels, params, model="demo", revision="abc"))) as picture:
        assert np.array_equal(np.asarray(picture), pixels)
        text = picture.text  # type: ignore[attr-defined]
    recipe = json.loads(text["recipe"])
    assert (recipe["prompt"], recipe["seed"], recipe["model_revision"]) == ("montañas, 雪山", 2**53 - 1, "abc")
    first, second, settings = text["parameters"].split("\n")
    assert (first, second) == ("montañas, 雪山", "Negative prompt: people")
    assert "Steps: 50, Sampler: ddim, CFG scale: 7.5, Seed: 9007199254740991, Size: 512x512" in settings
