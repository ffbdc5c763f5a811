"""Which errors of the model process are final, and which cost the process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.settings import Settings
from recipe.errors import FieldError, ModelError, RecipeError
from worker.messages import Failed
from worker.model_faults import describe, failed, is_device_fault, without_folders
from worker.warm import WarmModels


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RecipeError((FieldError("width", "too wide"),)), "cannot-be-painted"),
        (ModelError("no such model"), "model-unavailable"),
        (ValueError("bad"), "model-fault"),
        (TypeError("bad"), "model-fault"),
        (IndexError("bad"), "model-fault"),
        (KeyError("bad"), "model-fault"),
        (AssertionError("bad"), "model-fault"),
        (NotImplementedError("bad"), "model-fault"),
        (RuntimeError("The size of tensor a (4) must match the size of tensor b (8)"), "model-fault"),
        (RuntimeError("expected scalar type Half but found Float"), "model-fault"),
        (RuntimeError("Expected all tensors to be on the same device, but found cuda:0 and cpu!"), "model-fault"),
    ],
)
def test_an_error_that_would_come_again_is_final(error: Exception, reason: str) -> None:
    report = failed(error, step=0)
    assert (report.reason, report.final) == (reason, True)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "device-error"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED, sizes [1, 4]"), "device-error"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(shape)`"), "device-error"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate sizes"), "out-of-memory"),
        (RuntimeError("something else"), "internal-error"),
    ],
)
def test_an_error_of_the_device_costs_the_process_and_is_tried_again(error: Exception, reason: str) -> None:
    for step in (0, 3):
        report = failed(error, step=step)
        assert (report.reason, report.final) == (reason, False)


def test_an_error_after_the_first_step_is_tried_again_since_the_same_calls_have_worked() -> None:
    assert failed(IndexError("bad"), step=1) == Failed("internal-error", "IndexError in the model")


def test_what_a_user_reads_has_no_folder_of_the_server() -> None:
    assert without_folders("/srv/models/x/unet/config.json: no key 'a/b'") == "config.json: no key 'a/b'"
    assert describe(ValueError("'/data/x y' and more\nsecond line")) == "ValueError: 'x y' and more"
    assert without_folders("see https://example.org/a/b") == "see https://example.org/a/b"
    assert len(describe(ValueError("a" * 5000))) == 300


def test_a_working_device_is_not_blamed_for_a_shape() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_device_fault(caught.value)


def test_a_model_without_room_beside_the_others_is_loaded_alone_and_one_that_failed_does_not_count_as_warm(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(models=f"one={tiny_model},two={tiny_model}", device="cpu")
    models = WarmModels(settings.catalog, settings)
    models.get("one")
    load = WarmModels._load

    def small_device(self: WarmModels, name: str) -> object:
        if self.is_warm("one"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load(self, name)

    monkeypatch.setattr(WarmModels, "_load", small_device)
    assert models.get("two")[1] > 0
    assert (models.is_warm("one"), models.is_warm("two")) == (False, True)

    def no_room(self: WarmModels, name: str) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(WarmModels, "_load", no_room)
    with pytest.raises(torch.OutOfMemoryError):
        models.get("one")
    assert not models.is_warm("one")
