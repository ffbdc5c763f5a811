"""The models of a worker: kept warm within a limit, compiled where that is asked for, and never overfilled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor import config as inductor

from engine.errors import ParamsError
from engine.paint import paint
from engine.params import PanoramaParams
from jobs.settings import Settings
from worker.warm import WarmModels

PARAMS = PanoramaParams(prompt="a", width=256, height=128, num_inference_steps=2, seed=1)


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
    assert models.get("one")[0] is first, "not read again"
    assert (models.is_warm("one"), models.is_warm("two")) == (True, False)
    monkeypatch.setattr("worker.warm._HOST_RESERVE", 1 << 60)
    models.get("two")
    assert models.get("one")[0] is not first, "a host without room lets go as well"


def test_a_job_that_needs_more_memory_than_it_may_take_is_refused_before_it_begins(tiny_model: Path) -> None:
    models = models_of(tiny_model, job_memory_gb=0.001)
    models.get("one")
    with pytest.raises(ParamsError, match="smaller canvas"):
        models.batches("one", PARAMS)
    roomy = models_of(tiny_model, job_memory_gb=1.0)
    roomy.get("one")
    assert roomy.batches("one", PARAMS).size == 16


def test_an_unset_precision_is_full_on_a_cpu(tiny_model: Path) -> None:
    assert models_of(tiny_model).get("one")[0].dtype == torch.float32
    assert models_of(tiny_model, dtype="bfloat16").get("one")[0].dtype == torch.bfloat16


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


@pytest.mark.chaos
def test_a_compiled_model_paints_the_same_picture_in_calls_of_any_size(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain = models_of(tiny_model).get("one")[0]
    models = models_of(tiny_model, compile=True, view_batch_size=5, job_memory_gb=1.0)
    compiled = models.get("one")[0]
    assert compiled.is_compiled
    assert any(tmp_path.rglob("*.so")), "what was compiled is kept"
    with torch.compiler.set_stance("fail_on_recompile"):
        for width in (128, 192, 256):  # 1 view, 2 and 3, with guidance in half of the steps
            params = replace(PARAMS, width=width, view_stride=8, guidance_end=0.5)
            picture = paint(compiled, params, batches=models.batches("one", params)).pixels
            assert abs(paint(plain, params).pixels.astype(int) - picture).max() <= 2
