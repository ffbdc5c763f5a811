"""The autoencoder: 8 px a latent, four latent channels, small enough to train and to decode on a CPU.

Its latents carry noise while it trains, so the decoder forgives the UNet's small errors; at the end the latents'
mean and deviation are folded into the weights, so that `scaling_factor` is 1 and no shift is needed.
"""

import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from . import config, optim, scenes
from .attributes import sample

POOL = 140  # scenes held in memory for crops
FIRST_POOL_SEED = 5_000_000  # apart from the UNet's scenes
CHECKPOINT = config.RUNS / "vae.pt"


def build() -> AutoencoderKL:
    """A new autoencoder with random weights, about 2.6 M parameters."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128), layers_per_block=1, latent_channels=config.LATENT_CHANNELS,
        norm_num_groups=4, mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False,
        sample_size=512, scaling_factor=1.0, force_upcast=False)


def load(path: Path = CHECKPOINT) -> AutoencoderKL:
    """The trained autoencoder."""
    vae = build()
    vae.load_state_dict(torch.load(path, weights_only=True)["model"])
    return vae.eval()


def mean(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Latents (n, 4, h / 8, w / 8) of images (n, 3, h, w) in -1..1, without noise."""
    return vae.encoder(images)[:, : config.LATENT_CHANNELS]


def _draw(seed: int) -> np.ndarray:
    return scenes.draw(sample(seed), config.HEIGHT, config.WIDTH)


def pool(count: int) -> Tensor:
    """`count` drawn scenes (count, 3, 512, 2048), uint8, kept on disk between runs."""
    path = config.RUNS / "vae_pool.npy"
    if not path.exists():
        with ProcessPoolExecutor(2) as workers:
            drawn = list(workers.map(_draw, range(FIRST_POOL_SEED, FIRST_POOL_SEED + count)))
        np.save(path, np.stack(drawn).transpose(0, 3, 1, 2))
    return torch.from_numpy(np.load(path))


def crops(images: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random crops (count, 3, size, size) in -1..1, half of them mirrored."""
    out = torch.empty(count, 3, size, size)
    for i in range(count):
        n, y, x, flip = (int(torch.randint(0, high, (), generator=generator)) for high in
                         (len(images), config.HEIGHT - size + 1, config.WIDTH - size + 1, 2))
        crop = images[n, :, y : y + size, x : x + size].float() / 127.5 - 1.0
        out[i] = crop.flip(-1) if flip else crop
    return out


def loss(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """The training loss and the reconstruction; the noise's size follows the latents' deviation."""
    latents = mean(vae, images)
    deviation = latents.detach().std().clamp_min(1e-3)
    decoded = vae.decoder(latents + torch.randn_like(latents) * deviation * config.LATENT_NOISE)
    error = decoded - images
    total = error.abs().mean() + 2.0 * error.square().mean()
    # Edges: L1 of the differences between neighbours. Colour: the low frequencies, which L1 alone leaves drifting.
    total = total + 0.7 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
    total = total + 0.5 * F.avg_pool2d(error, 8).abs().mean()
    # Keeps the four channels near zero mean and unit variance, which is all the "KL" that is wanted here.
    spread = latents.square().mean(dim=(0, 2, 3))
    return total + 1e-3 * (spread - 1 - spread.clamp_min(1e-4).log()).mean(), decoded


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in -1..1 after encoding, the training noise and decoding."""
    latents = mean(vae, images)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    decoded = vae.decoder(latents + noise * latents.std() * config.LATENT_NOISE).clamp(-1, 1)
    return -10 * math.log10(float((decoded - images).square().mean()) / 4)


@torch.no_grad()
def normalise(vae: AutoencoderKL, images: Tensor) -> None:
    """Folds the latents' mean and deviation a channel into the encoder's last and the decoder's first layer.

    The encoder's second half of channels, the log-variance, becomes that of the training noise.
    """
    latents = torch.cat([mean(vae, batch) for batch in images.split(2)])
    shift, scale = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    n, out, first = config.LATENT_CHANNELS, vae.encoder.conv_out, vae.decoder.conv_in
    out.weight[:n] /= scale[:, None, None, None]
    out.bias[:n] = (out.bias[:n] - shift) / scale
    out.weight[n:], out.bias[n:] = 0.0, 2 * math.log(config.LATENT_NOISE)
    first.bias += (first.weight * shift[None, :, None, None]).sum(dim=(1, 2, 3))
    first.weight *= scale[None, :, None, None]


def train(settings: config.Settings) -> None:
    """Trains for `settings.vae_minutes`: 128-px crops first, 256-px crops for the last 40 %."""
    if CHECKPOINT.exists() and torch.load(CHECKPOINT, weights_only=True)["done"]:
        return
    images = pool(POOL)
    torch.manual_seed(config.SEED)
    vae = build().to(settings.device)
    for name, parameter in vae.named_parameters():
        if name.endswith("conv2.weight"):
            torch.nn.init.zeros_(parameter)  # every residual block starts as the identity
    optimisers = optim.build(vae, 0.02, 2e-3, ("conv_in", "conv_out", "decoder.conv_norm_out"))
    generator = torch.Generator().manual_seed(config.SEED)
    held_out = crops(images[-8:], 8, 256, generator).to(settings.device)
    images, start, step = images[:-8], time.time(), 0
    while (done := (time.time() - start) / 60 / settings.vae_minutes) < 1:
        large = done > 0.6
        batch = crops(images, 2 if large else 8, 256 if large else 128, generator).to(settings.device)
        optim.set_rate(optimisers, min(1.0, (step + 1) / 30) * (1.02 - done))
        value, _ = loss(vae, batch)
        value.backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            config.log("vae", step=step, loss=float(value), psnr=psnr(vae, held_out), minutes=done * settings.vae_minutes)
            torch.save({"model": vae.state_dict(), "done": False}, CHECKPOINT)
    normalise(vae, crops(images, 24, 512, generator).to(settings.device))
    config.log("vae", step=step, final_psnr=psnr(vae, held_out))
    torch.save({"model": vae.cpu().state_dict(), "done": True}, CHECKPOINT)
