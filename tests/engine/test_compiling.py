"""What is only done where the UNet is compiled."""

from __future__ import annotations

import contextvars
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend
from torch.profiler import profile

from engine.families.stable_diffusion import StableDiffusion
from engine.loading import load_model
from engine.speed.compiling import ChannelwiseGroupNorm, to_channels
from engine.speed.warmup import call_network, choose_attention
from recipe.models import find_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mean", [0.0, 8.0])
def test_a_group_norm_by_channels_is_the_group_norm(
    dtype: torch.dtype, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    plain = nn.GroupNorm(4, 24, eps=1e-5).requires_grad_(False)
    plain.weight.uniform_(0.5, 2)
    plain.bias.uniform_(-1, 1)
    ours = ChannelwiseGroupNorm(copy.deepcopy(plain))
    x = (torch.randn(3, 24, 16, 20) * torch.rand(24, 1, 1) + mean).to(memory_format=torch.channels_last)
    expected = plain(x.to(dtype).double().float())
    ours.to(dtype)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    found = ours(x.to(dtype))
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    relative = (found.float() - expected).norm() / expected.norm()
    # In float32, for which it is not used, a square less a square loses digits.
    assert relative <= {torch.float32: 1e-4, torch.bfloat16: 5e-3, torch.float16: 1e-3}[dtype]


def test_what_is_kept_is_what_is_not() -> None:
    of_groups = torch.randn(3, 4)
    assert torch.equal(to_channels(of_groups, 6, kept=True), to_channels(of_groups, 6, kept=False))
    assert to_channels(of_groups, 6, kept=True)[:, 6:12].eq(of_groups[:, 1:2]).all()


class Attending(nn.Module):
    """No more of a UNet than what is compiled soon."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.config = unet.config

    def forward(self, samples: torch.Tensor, *_: object, **_options: object) -> tuple[torch.Tensor]:
        rows = samples.contiguous()
        return (F.scaled_dot_product_attention(rows, rows, rows),)


@pytest.fixture
def model(tiny_model: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_model)), device="cpu")


@pytest.mark.slow
def test_attention_chosen_anew_is_not_that_compiled_at_an_earlier_start(
    model: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    for backend, is_fused in ((SDPBackend.MATH, False), (SDPBackend.FLASH_ATTENTION, True)):
        torch._dynamo.reset()  # as a new process, with what was kept on the disk
        started = replace(model, compiled_unet=torch.compile(Attending(model.unet)), attention=(backend,))
        call_network(started, 2, guided=True)
        with profile() as seen:
            call_network(started, 2, guided=True)
        fused = [event.key for event in seen.key_averages() if "flash_attention" in event.key]
        assert bool(fused) == is_fused, backend


def test_attention_is_chosen_by_its_best_call_and_without_what_the_device_lacks(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, calls = [0.0], []

    def call(model: StableDiffusion, views: int, **_: Any) -> None:
        (backend,) = model.attention
        calls.append(backend)
        if backend is SDPBackend.CUDNN_ATTENTION:
            raise RuntimeError("No viable backend")
        if backend is SDPBackend.FLASH_ATTENTION and calls.count(backend) == 6:
            raise RuntimeError("out of luck")
        disturbed = 9.0 if backend is SDPBackend.FLASH_ATTENTION and calls.count(backend) != 4 else 0.0
        clock[0] += views * (disturbed + (1.0 if backend is SDPBackend.FLASH_ATTENTION else 2.0))

    monkeypatch.setattr("engine.speed.warmup.call_network", call)
    monkeypatch.setattr("engine.speed.warmup.time.perf_counter", lambda: clock[0])
    found = choose_attention(model, 4)
    assert found == (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
    assert calls.count(SDPBackend.CUDNN_ATTENTION) == 1


def test_the_slower_kernels_are_always_in_one_order(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, found = [0.0], set()
    for slower in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):

        def call(model: StableDiffusion, views: int, *, slower: SDPBackend = slower, **_: Any) -> None:
            (backend,) = model.attention
            clock[0] += 3.0 if backend is slower else 1.0 if backend is SDPBackend.CUDNN_ATTENTION else 2.0

        monkeypatch.setattr("engine.speed.warmup.call_network", call)
        monkeypatch.setattr("engine.speed.warmup.time.perf_counter", lambda: clock[0])
        found.add(choose_attention(model, 4))
    assert len(found) == 1, "what was compiled for this choice is found again"


def test_a_prediction_leaves_the_configuration_of_torch_as_it_was(model: StableDiffusion) -> None:
    config: Any = torch.compiler.config
    chosen, before = replace(model, attention=(SDPBackend.MATH,)), len(contextvars.copy_context())
    for _ in range(3):
        call_network(chosen, 1, guided=True)
    assert config.cache_key_tag == ""
    assert len(contextvars.copy_context()) == before, "nothing piles up in a process that paints for weeks"
