"""A VAE decoder for canvases whose right edge continues at the left one.

The decoder is a second seam after the views: its convolutions see zeros beyond the edge. Padding the latents by a few
columns (diffusers pads 8) is not exact, because the decoder reaches further and its normalisation and attention see the
whole canvas. Circular padding in x inside every convolution is exact: roll the latents, and the picture rolls.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class CircularConv2d(nn.Conv2d):
    """A convolution that pads zeros above and below, and the other edge's columns left and right."""

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if isinstance(self.padding, str):
            raise TypeError("padding by name is not supported")
        pad_y, pad_x = self.padding
        wrapped = F.pad(input, (pad_x, pad_x, 0, 0), mode="circular") if pad_x else input
        return F.conv2d(wrapped, weight, bias, self.stride, (pad_y, 0), self.dilation, self.groups)


def circular_decoder(decoder: nn.Module) -> Any:
    """A copy of an AutoencoderKL decoder that wraps in x. It shares the weights: the copy costs no memory."""
    shared = {id(tensor): tensor for tensor in (*decoder.parameters(), *decoder.buffers())}
    wrapped = copy.deepcopy(decoder, shared)
    for module in wrapped.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = CircularConv2d
    return wrapped
