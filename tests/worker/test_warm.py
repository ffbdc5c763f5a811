"""The models of a worker: kept in memory up to a limit, compiled if requested, and within the device's memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor import config as inductor

from engine.paint import paint
from jobs.settings import Settings
from recipe.errors import RecipeError
from recipe.fields import Recipe
from testkit.tiny import build_tiny_xl
from worker.warm import WarmModels

PARAMS = Recipe(prompt="a", width=256, height=128, num_inference_steps=2, seed=1)


def models_of(tiny_model: Path, **settings: Any) -> WarmModels:
    given = Settings(models=f"one={tiny_model},two={tiny_model}", device="cpu", **settings)
    return WarmModels(given.catalog, given)


def test_beyond_the_limit_the_model_used_longest_ago_is_dropped(tiny_model: Path) -> None:
    models = models_of(tiny_model, model_memory_gb=1e-6)
    models.get("one")
    models.get("two")
    assert (models.is_warm("one"), models.is_warm("two")) == (False, True)
    roomy = models_of(tiny_model)
    assert roomy.get("one")[1] > 0
    roomy.get("two")
    assert roomy.get("one")[1] == 0, "warm"


def test_where_the_host_has_memory_of_its_own_a_dropped_model_is_kept_there(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WarmModels, "can_offload", True)
    models = models_of(tiny_model, model_memory_gb=1e-6)
    first, _ = models.get("one")
    models.get("two")
    assert not models.is_warm("one")
    assert models.get("one")[0] is first, "it is not read from its files again"
    assert (models.is_warm("one"), models.is_warm("two")) == (True, False)
    monkeypatch.setattr("worker.warm._HOST_RESERVE", 1 << 60)
    models.get("two")
    assert models.get("one")[0] is not first, "a host without free memory evicts it too"


def test_a_job_that_needs_more_memory_than_it_may_take_is_refused_before_it_begins(tiny_model: Path) -> None:
    models = models_of(tiny_model, job_memory_gb=0.001)
    models.get("one")
    with pytest.raises(RecipeError, match="smaller canvas"):
        models.batches("one", PARAMS)
    roomy = models_of(tiny_model, job_memory_gb=1.0)
    roomy.get("one")
    assert roomy.batches("one", PARAMS).size == 16


def test_an_unset_precision_is_full_on_a_cpu(tiny_model: Path) -> None:
    assert models_of(tiny_model).get("one")[0].dtype == torch.float32
    assert models_of(tiny_model, dtype="bfloat16").get("one")[0].dtype == torch.bfloat16


@pytest.mark.slow
def test_a_model_that_cannot_be_compiled_paints_without(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    models = models_of(tiny_model, compile=True)
    with inductor.patch({"cpp.cxx": ("/no/compiler",)}):
        model = models.get("one")[0]
    assert not model.is_compiled
    assert "cannot be compiled" in caplog.text
    plain = paint(models_of(tiny_model).get("one")[0], PARAMS).pixels
    assert (paint(model, PARAMS, batches=models.batches("one", PARAMS)).pixels == plain).all()


def test_a_warm_up_without_memory_for_all_views_compiles_with_fewer(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def little_memory(_model: object, views: int, *, guided: bool) -> None:
        if views > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        called.append((views, guided))

    monkeypatch.setattr("engine.speed.warmup.call_network", little_memory)
    assert models_of(tiny_model, compile=True, view_batch_size=8).get("one")[0].is_compiled
    assert set(called) == {(2, True), (2, False)}


def test_a_device_that_fails_in_the_warm_up_ends_the_process(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("engine.speed.warmup.call_network", broken)
    with pytest.raises(torch.AcceleratorError):
        models_of(tiny_model, compile=True).get("one")


@pytest.mark.chaos
def test_compiled_models_paint_the_same_pictures_in_calls_of_any_size(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    listed = f"one={tiny_model},two={build_tiny_xl(tmp_path / 'xl')}"
    # With a memory limit, the model's memory is measured, and that calls the UNet.
    settings = Settings(models=listed, device="cpu", compile=True, view_batch_size=5, job_memory_gb=1.0)
    plain = WarmModels(settings.catalog, settings.model_copy(update={"compile": False}))
    models = WarmModels(settings.catalog, settings)
    for name in settings.catalog:
        assert models.get(name)[0].is_compiled
    assert any(tmp_path.rglob("*.so")), "compiled kernels are kept"
    with torch.compiler.set_stance("fail_on_recompile"):
        for name in settings.catalog:
            for width in (128, 192, 256):  # 1 view, and 2 to 5 a call, with guidance in half of the steps
                params = replace(PARAMS, width=width, view_stride=4, guidance_end=0.5)
                picture = paint(models.get(name)[0], params, batches=models.batches(name, params)).pixels
                assert abs(paint(plain.get(name)[0], params).pixels.astype(int) - picture).max() <= 2
