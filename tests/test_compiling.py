"""What is only done where the UNet is compiled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.compiling import ChannelwiseGroupNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mean", [0.0, 8.0])
def test_a_group_norm_by_channels_is_the_group_norm(
    dtype: torch.dtype, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    plain = nn.GroupNorm(4, 24, eps=1e-5).requires_grad_(False)
    plain.weight.uniform_(0.5, 2)
    plain.bias.uniform_(-1, 1)
    ours = ChannelwiseGroupNorm(4, 24, eps=1e-5)
    ours.load_state_dict(plain.state_dict())
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
