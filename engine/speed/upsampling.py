"""Doubling by nearest neighbours and the 3x3 convolution after it, as one convolution of 4/9 of the products.

After doubling, five of the nine cells under the kernel repeat another: a pixel of the result depends on 2x2 cells of
the small layer, weighted by sums of the kernel's weights. For the four pixels of a cell together that is a transposed
convolution of 4x4 with stride 2, the same to rounding (the "sub-pixel" view of arXiv 1609.07009, reversed).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional as F


class FoldedUpsample(Upsample2D):
    """An Upsample2D that doubles and convolves in one step. It shares the convolution of `plain`."""

    folded: torch.Tensor

    def __init__(self, plain: Any) -> None:
        with torch.device("meta"):
            super().__init__(plain.channels, use_conv=True, out_channels=plain.out_channels, name=plain.name)
        self.conv = plain.conv
        self.register_buffer("folded", fold(plain.conv.weight), persistent=False)
        self.train(plain.training)

    def forward(self, hidden_states: torch.Tensor, output_size: Any = None) -> torch.Tensor:
        """(N, C, H, W) to (N, C', 2 H, 2 W), or to another `output_size` of (height, width) as diffusers does it."""
        if output_size is not None and list(output_size) != [2 * size for size in hidden_states.shape[-2:]]:
            return super().forward(hidden_states, output_size)
        return F.conv_transpose2d(hidden_states, self.folded, self.conv.bias, stride=2, padding=1)


def is_faster_folded(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the transposed convolution has a fast kernel. On a GPU that has not been measured.

    On a CPU, what oneDNN does not support goes to a kernel of torch's that is ten times slower.
    """
    if device.type != "cpu":
        return False
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    return dtype == torch.float32 or (dtype == torch.bfloat16 and supported())


def fold_upsampling(module: nn.Module) -> None:
    """Replace eligible `Upsample2D` layers with `FoldedUpsample`."""
    layers = [(name, layer) for name, layer in module.named_modules() if type(layer) is Upsample2D]
    for name, layer in layers:
        if _is_nearest_and_conv(layer):
            module.set_submodule(name, FoldedUpsample(layer))


def fold(weight: torch.Tensor) -> torch.Tensor:
    """Weights (O, I, 3, 3) to those (I, O, 4, 4) of the transposed convolution, summed in fp32."""

    def along(weight: torch.Tensor, dim: int) -> torch.Tensor:
        # Pixel 2i of the result is w0 x[i-1] + (w1 + w2) x[i], and pixel 2i + 1 is (w0 + w1) x[i] + w2 x[i+1].
        w0, w1, w2 = weight.unbind(dim)
        return torch.stack([w2, w1 + w2, w0 + w1, w0], dim)

    folded = along(along(weight.float(), 2), 3).transpose(0, 1)
    return folded.to(weight.dtype).contiguous(memory_format=torch.channels_last)


def _is_nearest_and_conv(layer: Any) -> bool:
    conv = getattr(layer, "conv", None)
    return (
        layer.interpolate
        and layer.norm is None
        and isinstance(conv, nn.Conv2d)
        and (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((3, 3), (1, 1), (1, 1), 1)
    )
