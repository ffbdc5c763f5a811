"""The linear patch code: every 8x8-px patch to its six strongest principal components, each of unit variance.

The latents are these components and nothing else. A linear code keeps the latents smooth and simple, so that a small
UNet learns them in few steps, it costs a matrix product to encode a scene, and the sharpness is the decoder's work.
`AutoencoderKL`'s encoder is given weights that compute the very same code.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import Encoder
from torch import Tensor, nn
from torch.nn import functional as F

from . import config

FILE = config.RUNS / "code.pt"
PATCHES = 512  # patches of each scene that the components are computed from


@dataclass(frozen=True)
class Code:
    """Weights (6, 3, 8, 8) and offset (6,) of the encoding of images in -1..1."""

    weight: Tensor
    offset: Tensor

    def encode(self, images: Tensor) -> Tensor:
        """Latents (n, 6, h / 8, w / 8) of images (n, 3, h, w) in -1..1."""
        return F.conv2d(images, self.weight, self.offset, stride=config.FACTOR)

    def save(self, path: Path = FILE) -> None:
        """Writes the code to `path`."""
        torch.save({"weight": self.weight, "offset": self.offset}, path)


def load(path: Path = FILE) -> Code:
    """The code from its file."""
    return Code(**torch.load(path, weights_only=True))


def fit(images: Tensor, generator: torch.Generator) -> Code:
    """The code of scenes (n, 3, 512, 2048) uint8, from random patches on the 8-px grid."""
    size, rows = config.FACTOR, []
    for image in images:
        patches = F.pixel_unshuffle(image.float() / 127.5 - 1.0, size).flatten(1).T  # (patches, 192)
        rows.append(patches[torch.randint(len(patches), (PATCHES,), generator=generator)])
    data = torch.cat(rows)
    mean = data.mean(0)
    _, values, components = torch.linalg.svd(data - mean, full_matrices=False)
    deviation = values[: config.LATENT_CHANNELS] / math.sqrt(len(data))
    matrix = components[: config.LATENT_CHANNELS] / deviation[:, None]
    return Code(matrix.view(-1, 3, size, size), -matrix @ mean)


def _principal(features: Tensor, count: int) -> Tensor:
    """The `count` strongest directions (count, d) of features (n, d), uncentred; zeros where d < count."""
    values, vectors = torch.linalg.eigh(features.T @ features)
    directions = vectors[:, values.argsort(descending=True)].T[:count]
    return F.pad(directions, (0, 0, 0, count - len(directions)))


@torch.no_grad()
def fill_encoder(vae: AutoencoderKL, code: Code, images: Tensor) -> None:
    """Gives `vae`'s encoder weights that compute `code`; images (n, 3, h, w) in -1..1 choose its inner directions.

    The residual branches are zero, so that the path is linear: each halving keeps the strongest directions of its 2x2
    neighbourhoods. Only the last normalisation and SiLU bend it, and `silu(x) - silu(-x) = x` undoes the SiLU.
    """
    encoder = vae.encoder
    for name, parameter in encoder.named_parameters():
        if name.endswith(("conv2.weight", "conv2.bias")) or "conv_shortcut" in name:
            parameter.zero_()
    for layer in (encoder.conv_in, *(block.downsamplers[0].conv for block in encoder.down_blocks[:-1])):
        layer.weight.zero_()
        layer.bias.zero_()
    encoder.conv_in.weight[torch.arange(3), torch.arange(3), 1, 1] = 1.0
    state = encoder.conv_in(images)
    for block in encoder.down_blocks[:-1]:
        if (shortcut := block.resnets[0].conv_shortcut) is not None:
            shortcut.weight[:, :, 0, 0] = torch.eye(*shortcut.weight.shape[:2])
        state = block.resnets[0](state, None)
        conv = block.downsamplers[0].conv
        features = F.pixel_unshuffle(state, 2).movedim(1, -1).flatten(0, -2)
        directions = _principal(features, conv.out_channels)
        conv.weight[:, :, :2, :2] = directions.view(conv.out_channels, conv.in_channels, 2, 2)
        state = block.downsamplers[0](state)
    _fill_pairs(encoder.down_blocks[-1].resnets[0].conv_shortcut, encoder.conv_norm_out.num_groups, state)
    _fill_last(encoder, code, images)


def _fill_pairs(shortcut: nn.Conv2d, groups: int, state: Tensor) -> None:
    """A pair x, -x for each direction; one constant pair a group keeps the normalisation's divisor nearly constant."""
    assert shortcut.bias is not None
    size = shortcut.out_channels // groups
    constant = 30.0 * float(state.std())
    for channel in range(0, shortcut.out_channels, 2):
        group, place = divmod(channel, size)
        if place == size - 2:
            shortcut.bias[channel], shortcut.bias[channel + 1] = constant, -constant
        else:
            source = group * (size // 2 - 1) + place // 2
            shortcut.weight[channel, source], shortcut.weight[channel + 1, source] = 1.0, -1.0


def _fill_last(encoder: Encoder, code: Code, images: Tensor) -> None:
    """The encoder's last layer by least squares; its second half, the log-variance, is that of the training noise."""
    kept: list[Tensor] = []
    handle = encoder.conv_act.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    encoder(images)
    handle.remove()
    features = kept[0].movedim(1, -1).flatten(0, -2).double()
    features = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    target = code.encode(images).movedim(1, -1).flatten(0, -2).double()
    gram = features.T @ features
    ridge = 1e-9 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    solution = torch.linalg.solve(gram + ridge, features.T @ target).float()
    n, last = config.LATENT_CHANNELS, encoder.conv_out
    last.weight.zero_()
    last.weight[:n, :, 1, 1], last.bias[:n] = solution[:-1].T, solution[-1]
    last.bias[n:] = 2 * math.log(config.LATENT_NOISE)


@torch.no_grad()
def start_decoder(vae: AutoencoderKL, latents: Tensor, images: Tensor) -> None:
    """Starts the decoder as the best smooth interpolation of `latents` (n, 6, h, w) to `images` (n, 3, 8h, 8w)."""
    decoder, n = vae.decoder, config.LATENT_CHANNELS
    decoder.conv_in.weight[: 2 * n] = 0.0
    for j in range(n):  # pairs, as in the encoder
        decoder.conv_in.weight[2 * j, j, 1, 1], decoder.conv_in.weight[2 * j + 1, j, 1, 1] = 1.0, -1.0
    for name, parameter in decoder.named_parameters():
        if name.endswith(("conv2.weight", "conv2.bias", "upsamplers.0.conv.bias", "conv_shortcut.bias")):
            parameter.zero_()
        elif name.endswith("conv_shortcut.weight"):
            parameter.copy_(torch.eye(*parameter.shape[:2])[:, :, None, None])
        elif name.endswith("upsamplers.0.conv.weight"):
            parameter.copy_(torch.nn.init.dirac_(torch.empty_like(parameter)))
    kept: list[Tensor] = []
    handle = decoder.conv_act.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    decoder(latents)
    handle.remove()
    # Some positions are enough for 145 unknowns, and the whole matrix would not fit.
    columns = F.unfold(kept[0], 3, padding=1, stride=1).movedim(1, -1).flatten(0, 1)[::7].double()
    columns = torch.cat([columns, torch.ones(len(columns), 1, dtype=torch.float64)], 1)
    target = images.movedim(1, -1).flatten(0, -2)[::7].double()
    gram = columns.T @ columns
    gram += 1e-7 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    solution = torch.linalg.solve(gram, columns.T @ target).float()
    decoder.conv_out.weight.copy_(solution[:-1].T.reshape(decoder.conv_out.weight.shape))
    decoder.conv_out.bias.copy_(solution[-1])
