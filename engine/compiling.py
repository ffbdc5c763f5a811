"""The UNet, compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class ChannelwiseGroupNorm(nn.GroupNorm):
    """GroupNorm whose moments are those of its channels, put together: the same, to the rounding of fp32.

    The numbers of a group lie ten channels here and ten there in channels_last memory, and a compiler's loop over a
    group reads it in crumbs. A loop over channels reads it in rows. Not compiled, it is torch's own.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape and dtype."""
        if not torch.compiler.is_compiling() or input.ndim != 4:
            return super().forward(input)
        values, per_group = input.float(), self.num_channels // self.num_groups

        def over_group(moments: torch.Tensor) -> torch.Tensor:
            return moments.unflatten(1, (self.num_groups, per_group)).mean(2)

        mean = over_group(values.mean((2, 3)))
        variance = (over_group(values.square().mean((2, 3))) - mean.square()).clamp_min(0)
        scale = to_channels((variance + self.eps).rsqrt(), per_group, kept=not input.is_cuda) * self.weight.float()
        shift = self.bias.float() - to_channels(mean, per_group, kept=not input.is_cuda) * scale
        return (values * scale[..., None, None] + shift[..., None, None]).to(input.dtype)


def to_channels(of_groups: torch.Tensor, per_group: int, *, kept: bool) -> torch.Tensor:
    """(N, groups) to (N, groups * per_group), each number repeated.

    A compiler computes that anew wherever it is used: on a CPU for every pixel, in loops over the few channels of a
    group. `kept`, it is made a product, whose result a compiler keeps.
    """
    if not kept:
        return of_groups.repeat_interleave(per_group, 1)
    return of_groups @ torch.eye(of_groups.shape[1], device=of_groups.device).repeat_interleave(per_group, 1)


def compile_unet(unet: Any) -> Any:
    """`unet`, to be compiled when it is first called: once for all numbers of views but one, which is not.

    That costs no speed on a GPU. `max-autotune`, the search for faster kernels, takes long and has little to find: the
    convolutions and products that make up most of the time are the vendor's.
    """
    if unet.dtype != torch.float32:  # where a square less a square is no loss
        for norm in [module for module in unet.modules() if type(module) is nn.GroupNorm]:
            norm.__class__ = ChannelwiseGroupNorm
    torch._dynamo.config.recompile_limit = 64  # for all models of a process together; beyond it nothing is compiled
    return torch.compile(unet)
