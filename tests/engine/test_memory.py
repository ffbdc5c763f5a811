"""A painting keeps within the memory there is: foreseen, refused, or painted fewer views at a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.loading import load_model
from engine.memory import Footprint, LiveBytes, fit, free_bytes, measure, needed_bytes
from engine.paint import paint
from engine.speed.warmup import call_network
from recipe.errors import RecipeError
from recipe.fields import Recipe
from recipe.models import find_model
from recipe.regions import Region
from testkit.tiny import build_tiny_model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_model)), device="cpu")


def run(batches: MicroBatches, items: range, call: Callable[[Any], None]) -> None:
    for batch in batches.split(items):
        with batch as some:
            call(some)


PARAMS = Recipe(prompt="a", width=512, height=128, num_inference_steps=2)


@pytest.mark.parametrize(
    ("views", "size", "calls"), [(25, 16, [13, 12]), (25, 8, [7, 6, 6, 6]), (7, 8, [7]), (9, 6, [5, 4])]
)
def test_views_are_shared_out_evenly(views: int, size: int, calls: list[int]) -> None:
    batches, seen = MicroBatches(size), []
    run(batches, range(views), lambda batch: seen.append(list(batch)))
    assert [len(batch) for batch in seen] == calls
    assert [item for batch in seen for item in batch] == list(range(views))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")],
    ids=["device", "host"],
)
def test_views_that_do_not_fit_are_painted_fewer_at_a_time_from_then_on(error: RuntimeError) -> None:
    batches, done = MicroBatches(8), []

    def call(batch: range) -> None:
        if len(batch) > 2:
            raise error
        done.extend(batch)

    run(batches, range(20), call)
    assert done == list(range(20)), "each once"
    assert batches.size <= 2

    def never(_batch: object) -> None:
        raise error

    with pytest.raises(torch.OutOfMemoryError):
        run(batches, range(20), never)


def test_a_painting_that_runs_out_of_memory_is_the_same_picture(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = paint(model, PARAMS, batches=MicroBatches(2)).pixels
    forward = model.unet.forward

    def narrow(sample: torch.Tensor, *args: object, **kwargs: object) -> object:
        if len(sample) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(model.unet, "forward", narrow)
    assert abs(paint(model, PARAMS, batches=MicroBatches(8)).pixels.astype(int) - whole).max() <= 1


def test_a_decode_is_made_again_when_memory_was_only_free_in_pieces(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.randn(1, 4, 16, 32)
    whole, run, calls = model.decode(latents), StableDiffusion.run_decoder, []

    def in_pieces(self: StableDiffusion, *args: Any) -> torch.Tensor:
        calls.append(args)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, *args)

    monkeypatch.setattr(StableDiffusion, "run_decoder", in_pieces)
    assert torch.equal(model.decode(latents), whole)
    assert len(calls) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the heap of glibc")
def test_memory_kept_for_the_next_call_counts_as_free(model: StableDiffusion) -> None:
    assert model.device.type == "cpu"  # whose loading has memory kept
    process = psutil.Process()
    before = process.memory_info().rss
    blocks = [torch.ones(60 << 18) for _ in range(4)]
    del blocks
    free_bytes(torch.device("cpu"), wanted=1 << 60)
    assert process.memory_info().rss - before < 60 << 20


def test_what_a_model_needs_is_foreseen(model: StableDiffusion) -> None:
    footprint = measure(model)
    latents = torch.randn(1, 4, 16, 200)
    with torch.no_grad(), LiveBytes() as decoding:
        model.decode(latents)
    assert decoding.peak <= footprint.decode(16 * 200) <= 1.6 * decoding.peak
    # Tensors made for inference are not seen, so that the call below is counted without that mode.
    with torch.no_grad(), LiveBytes() as predicting:
        call_network(model, 3, guided=True)
    assert predicting.peak <= footprint.unet(6) <= 1.6 * max(predicting.peak, 1)


@pytest.mark.slow
def test_a_model_that_is_compiled_is_foreseen_as_it_was(tiny_model: Path, model: StableDiffusion) -> None:
    plain = load_model(find_model(str(tiny_model)), device="cpu")
    compiled = plain.compiled()
    assert compiled.is_compiled
    assert measure(compiled) == measure(model)


def test_a_job_that_will_not_fit_is_refused_or_painted_in_smaller_batches(model: StableDiffusion) -> None:
    footprint, batches = Footprint(unet_fixed=0, unet_sample=1e8, decode_fixed=0, decode_cell=1e5), MicroBatches(8)
    assert fit(footprint, model, PARAMS, batches, 4 << 30) is batches
    assert fit(footprint, model, PARAMS, batches, 1 << 30).size == 4, "eight samples of the guidance"
    assert batches.size == 8, "the next job may have more room"
    with pytest.raises(RecipeError, match="smaller canvas") as refused:
        fit(footprint, model, PARAMS, batches, 200 << 20)
    assert refused.value.errors[0].field == "width"
    with pytest.raises(RecipeError, match="smaller canvas"):
        fit(footprint, model, Recipe(prompt="a", width=8192, height=128), batches, 1 << 30)
    assert free_bytes(torch.device("cpu")), "the host's memory is known on Linux"


def test_the_memory_of_plain_grounds_behind_regions_is_foreseen(model: StableDiffusion) -> None:
    """The encoder's, which no other painting needs; measuring it leaves the model as it was."""
    footprint = measure(model)
    view = Recipe(prompt="a", width=128, height=128, regions=(Region(prompt="b", right=0.5),))
    large_encoder = replace(footprint, encode_view=1e9)
    plain = needed_bytes(footprint, model, view, 1)
    assert plain == needed_bytes(large_encoder, model, view, 1)
    assert plain < 1e9 < needed_bytes(large_encoder, model, replace(view, region_bootstrap=0.5), 1)
    pixels = torch.zeros(1, 3, 128, 128)
    with torch.inference_mode(), LiveBytes() as counted:
        model.encode_pixels(pixels)
    assert counted.peak <= 1.05 * footprint.encode_view


def test_the_forecast_is_of_the_type_that_the_decoder_runs_in(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "half", window=16)
    config = folder / "vae" / "config.json"

    def half(**changes: bool) -> StableDiffusion:
        kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "force_upcast"}
        config.write_text(json.dumps({**kept, **changes}))
        return load_model(find_model(str(folder)), device="cpu", dtype="float16")

    silent, upcast = half(), half(force_upcast=True)
    assert (silent.decoder_dtype, upcast.decoder_dtype) == (torch.float16, torch.float32)
    narrow, wide = measure(silent), measure(upcast)
    assert wide.decode_cell == pytest.approx(2 * narrow.decode_cell, rel=0.01)
    assert wide.decode_fixed >= 2 * narrow.decode_fixed
    assert silent.decode(torch.randn(1, 4, 16, 16)).isfinite().all()
    assert silent.vae.dtype == upcast.vae.dtype == torch.float16
