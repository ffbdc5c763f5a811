"""Upsampling in one step is what diffusers does in two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import nn

from engine import decoder
from engine.loading import load_model
from engine.speed.upsampling import FoldedUpsample, fold_upsampling, is_faster_folded
from recipe.models import find_model
from testkit.parity import relative_rms


def folded(layer: Upsample2D) -> nn.Module:
    """What a module that holds `layer` has in its place afterwards."""
    module = nn.Sequential(layer)
    fold_upsampling(module)
    return module[0]


@pytest.mark.parametrize("size", [(8, 8), (5, 12), (1, 1)])
def test_a_folded_layer_is_the_layer(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = Upsample2D(6, use_conv=True, out_channels=10).requires_grad_(False)
    x = torch.randn(2, 6, *size).to(memory_format=torch.channels_last)
    expected, odd = layer(x), layer(x, output_size=(2 * size[0] + 1, 2 * size[1]))
    layer = folded(layer)
    assert type(layer) is FoldedUpsample
    assert relative_rms(layer(x), expected) <= 1e-6
    assert relative_rms(layer(x, [2 * cells for cells in size]), expected) <= 1e-6
    assert torch.equal(layer(x, output_size=(2 * size[0] + 1, 2 * size[1])), odd), "another size is diffusers' own"


@pytest.mark.skipif(not is_faster_folded(torch.device("cpu"), torch.bfloat16), reason="it is not used here")
def test_in_16_bits_the_rounded_sums_cost_no_more_than_the_rounding_itself() -> None:
    torch.manual_seed(0)
    layer = Upsample2D(32, use_conv=True).requires_grad_(False).bfloat16()
    x = torch.randn(4, 32, 16, 16).bfloat16()
    exact = Upsample2D(32, use_conv=True).requires_grad_(False)
    exact.load_state_dict({name: value.float() for name, value in layer.state_dict().items()})
    plain = relative_rms(layer(x), exact(x.float()))
    layer = folded(layer)
    assert layer(x).dtype == torch.bfloat16
    assert relative_rms(layer(x), exact(x.float())) <= 1.6 * plain


@pytest.mark.parametrize(
    "layer",
    [
        Upsample2D(8, use_conv=False),
        Upsample2D(8, use_conv_transpose=True),
        Upsample2D(8, use_conv=True, norm_type="ln_norm"),
        Upsample2D(8, use_conv=True, kernel_size=1, padding=0),
        Upsample2D(8, use_conv=True, interpolate=False),
    ],
)
def test_any_other_layer_is_left_as_it_is(layer: Upsample2D) -> None:
    assert folded(layer) is layer


def test_a_model_on_a_cpu_computes_what_diffusers_modules_compute(tiny_model: Path) -> None:
    model = load_model(find_model(str(tiny_model)), device="cpu")
    assert any(isinstance(layer, FoldedUpsample) for layer in model.unet.modules())
    assert any(isinstance(layer, FoldedUpsample) for layer in model.vae.modules())
    unet = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    vae = AutoencoderKL.from_pretrained(tiny_model, subfolder="vae")
    torch.manual_seed(0)
    latents, states = torch.randn(2, 4, 16, 16), torch.randn(2, 77, unet.config.cross_attention_dim)
    with torch.inference_mode():
        expected = unet(latents, 500, encoder_hidden_states=states).sample
        assert relative_rms(model.unet(latents, 500, encoder_hidden_states=states).sample, expected) <= 1e-6
        wide = torch.randn(1, 4, 16, 40)
        expected = vae.decoder(wide)
        for strip in (1, 1 << 20):
            assert relative_rms(decoder.decode(model.vae.decoder, wide, strip_elements=strip), expected) <= 1e-6


def test_it_is_left_to_what_has_a_fast_kernel_for_it(tiny_model: Path) -> None:
    cpu = torch.device("cpu")
    assert is_faster_folded(cpu, torch.float32)
    assert not is_faster_folded(cpu, torch.float16)
    assert not is_faster_folded(torch.device("cuda"), torch.float32)
    model = load_model(find_model(str(tiny_model)), device="cpu", dtype="float16")
    assert not any(isinstance(layer, FoldedUpsample) for layer in (*model.unet.modules(), *model.vae.modules()))
