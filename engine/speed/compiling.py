"""The UNet, compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class ChannelwiseGroupNorm(nn.GroupNorm):
    """A GroupNorm that computes its moments from those of its channels: the same, to the rounding of fp32.

    In channels_last memory the numbers of a group lie scattered, and a compiler's loop over a group reads them a few at
    a time. A loop over channels reads whole rows. Not compiled, it is torch's own. It shares the weights of `plain`.
    """

    def __init__(self, plain: nn.GroupNorm) -> None:
        super().__init__(plain.num_groups, plain.num_channels, plain.eps, plain.affine, device="meta")
        self.weight, self.bias = plain.weight, plain.bias

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

    A compiler recomputes a repetition wherever it is used: on a CPU for every pixel, in loops over the few channels of
    a group. With `kept` it is written as a matrix product, whose result a compiler stores.
    """
    if not kept:
        return of_groups.repeat_interleave(per_group, 1)
    return of_groups @ torch.eye(of_groups.shape[1], device=of_groups.device).repeat_interleave(per_group, 1)


def compile_unet(unet: Any) -> Any:
    """Compiled lazily with a dynamic batch size; single-tile calls must stay eager (torch specialises a size of 1).

    One graph for all sizes costs no speed on a GPU. `max-autotune`, the search for faster kernels, takes long and finds
    little: the convolutions and products that make up most of the time are the vendor's.
    """
    if unet.dtype != torch.float32:  # in float32 the difference of two squares would lose digits
        norms = [(name, module) for name, module in unet.named_modules() if type(module) is nn.GroupNorm]
        for name, norm in norms:
            unet.set_submodule(name, ChannelwiseGroupNorm(norm))
    torch._dynamo.config.recompile_limit = 64  # counts all models of a process; beyond it torch stops compiling
    return torch.compile(unet)
