"""A VAE's decoder in bounded memory: exact, and seamless on circular canvases.

Decoding a panorama at once holds several copies of the widest layers in memory, gigabytes for a large canvas. Decoding
it tile by tile shows seams and shifts of colour, because every GroupNorm and the attention look at the whole canvas.
Here each layer is computed in strips of columns, with the statistics of the whole layer: at most two layers are in
memory, and the picture equals that of the whole decoder, to rounding.

On a circular canvas a convolution sees the other edge's columns beyond an edge. That makes the decoder exactly
equivariant to shifts: roll the latents, and the picture rolls. (diffusers pads the latents by 8 columns
instead, which is not exact: convolutions reach further, and normalisation counts the padding.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

# Elements of a strip of one layer: enough to keep the device busy, few beside the layer itself.
_STRIP_ELEMENTS, _STRIP_ELEMENTS_GPU = 4 << 20, 32 << 20
_QUERIES = 4096  # at a time in the attention: for so wide a head every kernel stores the score matrix

Activation = Callable[[torch.Tensor], torch.Tensor]


def decode(
    decoder: Any, latents: torch.Tensor, *, circular: bool = False, strip_elements: int | None = None
) -> torch.Tensor:
    """Pixels (1, 3, H * f, W * f) of `latents` (1, C, H, W), in the latents' dtype.

    `decoder` is the decoder of diffusers' AutoencoderKL.
    """
    layers = _Layers(circular, strip_elements or (_STRIP_ELEMENTS_GPU if latents.is_cuda else _STRIP_ELEMENTS))
    x = layers.conv(decoder.conv_in, latents)
    first, *others = decoder.mid_block.resnets
    x = layers.resnet(first, x)
    for attention, resnet in zip(decoder.mid_block.attentions, others, strict=True):
        x = layers.resnet(resnet, x if attention is None else _attend(attention, x))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = layers.resnet(resnet, x)
        for upsampler in block.upsamplers or ():
            x = layers.upsample(upsampler, x)
    return layers.conv(decoder.conv_out, x, _normalised(decoder.conv_norm_out, x, layers.strips(x)))


@dataclass(frozen=True, slots=True)
class _Layers:
    circular: bool
    strip_elements: int

    def strips(self, x: torch.Tensor) -> list[tuple[int, int]]:
        """Columns (left, right) of each strip of a layer."""
        width = x.shape[-1]
        columns = max(8, self.strip_elements // (x.shape[1] * x.shape[2]))
        return [(left, min(left + columns, width)) for left in range(0, width, columns)]

    def conv(self, conv: nn.Conv2d, x: torch.Tensor, before: Activation = lambda x: x) -> torch.Tensor:
        """`conv(before(x))` of a 3x3 convolution."""
        out = _like(x, conv.out_channels, x.shape[-1])
        for left, right in self.strips(x):
            out[..., left:right] = self._strip(conv, x, left, right, before)
        return out

    def resnet(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        """diffusers' ResnetBlock2D without a time embedding."""
        strips = self.strips(x)
        hidden = self.conv(block.conv1, x, _normalised(block.norm1, x, strips))
        before = _normalised(block.norm2, hidden, strips)
        out = x if block.conv_shortcut is None else _like(x, block.conv2.out_channels, x.shape[-1])
        for left, right in strips:
            residual = x[..., left:right] if block.conv_shortcut is None else block.conv_shortcut(x[..., left:right])
            out[..., left:right] = (
                residual + self._strip(block.conv2, hidden, left, right, before)
            ) / block.output_scale_factor
        return out

    def upsample(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        """Twice the size by nearest neighbours, then a 3x3 convolution: diffusers' Upsample2D."""
        out = _like(x, layer.conv.out_channels, x.shape[-1] * 2, x.shape[-2] * 2)
        for left, right in self.strips(out[..., : x.shape[-1]]):
            columns, before, after = self._columns(x, left, right)
            # Each neighbouring column has become two.
            out[..., 2 * left : 2 * right] = layer(columns)[..., 2 * before : -2 * after or None]
        return out

    def _strip(self, conv: nn.Conv2d, x: torch.Tensor, left: int, right: int, before: Activation) -> torch.Tensor:
        columns, has_left, has_right = self._columns(x, left, right)
        # A convolution sees zeros beyond an edge after the activation, not before it: pad the activated columns.
        return _conv(conv, before(columns), has_left, has_right)

    def _columns(self, x: torch.Tensor, left: int, right: int) -> tuple[torch.Tensor, int, int]:
        """Columns left..right with their neighbours, and whether there is one on the left and on the right."""
        width = x.shape[-1]
        if not self.circular or (left > 0 and right < width):
            return x[..., max(left - 1, 0) : right + 1], int(left > 0), int(right < width)
        parts = [x[..., left - 1 : left] if left > 0 else x[..., -1:], x[..., left:right]]
        parts.append(x[..., right : right + 1] if right < width else x[..., :1])
        return torch.cat(parts, dim=-1), 1, 1


def _conv(conv: nn.Conv2d, x: torch.Tensor, has_left: int, has_right: int) -> torch.Tensor:
    """A 3x3 convolution that sees zeros above, below, and where `x` brings no neighbouring column."""
    if not has_left or not has_right:
        x = F.pad(x, (1 - has_left, 1 - has_right))
    return F.conv2d(x, conv.weight, conv.bias, padding=(1, 0))


def _like(x: torch.Tensor, channels: int, width: int, height: int | None = None) -> torch.Tensor:
    shape = (1, channels, height or x.shape[-2], width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _normalised(norm: nn.GroupNorm, x: torch.Tensor, strips: list[tuple[int, int]]) -> Activation:
    """GroupNorm with the statistics of the whole layer, then SiLU, for any of its columns.

    Once its statistics are known, a GroupNorm is what BatchNorm computes from running ones, in fp32 inside.
    """
    moments = _moments(norm.num_groups, (x[..., left:right] for left, right in strips))
    mean, variance = (moment.repeat_interleave(x.shape[1] // norm.num_groups) for moment in moments)
    weight, bias = norm.weight.float(), norm.bias.float()

    def activate(columns: torch.Tensor) -> torch.Tensor:
        return F.silu(F.batch_norm(columns, mean, variance, weight, bias, eps=norm.eps), inplace=True)

    return activate


def _moments(groups: int, strips: Iterator[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (groups,) over all strips (1, C, H, w), fp32, merged from those of each strip and channel."""
    columns, means, variances = [], [], []
    for strip in strips:
        values = strip.float()
        mean = values.mean((0, 2, 3), keepdim=True)
        columns.append(strip.shape[-1])
        means.append(mean.flatten())
        variances.append((values - mean).square_().mean((0, 2, 3)))
    share = torch.tensor(columns, device=means[0].device)[:, None] / sum(columns)

    def over_group(values: list[torch.Tensor]) -> torch.Tensor:
        return (torch.stack(values) * share).sum(0).unflatten(0, (groups, -1)).mean(1)

    mean = over_group(means)
    from_mean = mean.repeat_interleave(means[0].numel() // groups)
    return mean, over_group([v + (m - from_mean).square() for v, m in zip(variances, means, strict=True)])


def _attend(attention: Any, x: torch.Tensor) -> torch.Tensor:
    """diffusers' Attention of a VAE: every cell looks at every cell of the whole canvas."""
    tokens = attention.group_norm(x.flatten(2)).mT  # (1, H * W, C)
    query, key, value = (
        projection(tokens).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for projection in (attention.to_q, attention.to_k, attention.to_v)
    )
    seen = torch.cat([F.scaled_dot_product_attention(part, key, value) for part in query.split(_QUERIES, dim=2)], dim=2)
    out = attention.to_out[0](seen.transpose(1, 2).flatten(2)).mT.unflatten(-1, x.shape[-2:])
    return (out + x) / attention.rescale_output_factor
