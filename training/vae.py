"""The autoencoder: 8 px a latent, six latent channels, small enough to train and to decode on a CPU.

The encoder is the linear patch code of `code.py`; only the decoder is trained. Its latents carry noise while it
trains, so that it forgives the UNet's small errors.
"""

import copy
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from . import code, config, optim, scenes
from .attributes import sample

POOL = 140  # scenes held in memory for crops
HELD_OUT = 8
FIRST_POOL_SEED = 5_000_000  # apart from the UNet's scenes
CHECKPOINT = config.RUNS / "vae.pt"
DECAY = 0.98  # of the running average of the decoder's weights, which is what is kept
EVERY = 100  # steps between two checkpoints


def build() -> AutoencoderKL:
    """A new autoencoder with random weights, about 2.6 M parameters."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=config.LATENT_CHANNELS,
        norm_num_groups=4,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=512,
        scaling_factor=1.0,
        force_upcast=False,
    )


def load(path: Path = CHECKPOINT) -> AutoencoderKL:
    """The trained autoencoder."""
    vae = build()
    vae.load_state_dict(torch.load(path, weights_only=True)["model"])
    return vae.eval()


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
        n, y, x, flip = (
            int(torch.randint(0, high, (), generator=generator))
            for high in (len(images), config.HEIGHT - size + 1, config.WIDTH - size + 1, 2)
        )
        crop = images[n, :, y : y + size, x : x + size].float() / 127.5 - 1.0
        out[i] = crop.flip(-1) if flip else crop
    return out


def noisy(latents: Tensor, generator: torch.Generator) -> Tensor:
    """`latents` with the training noise."""
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    return latents + noise * config.LATENT_NOISE


def loss(decoded: Tensor, images: Tensor) -> Tensor:
    """The decoder's training loss for images (n, 3, h, w) in -1..1."""
    error = decoded - images
    total = error.abs().mean() + 2.0 * error.square().mean()
    # Edges: L1 of the differences between neighbours. Colour: the low frequencies, which L1 alone leaves drifting.
    total = total + 0.7 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
    return total + 0.5 * F.avg_pool2d(error, config.FACTOR).abs().mean()


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in -1..1 after the encoder, the training noise and the decoder."""
    latents = vae.encoder(images)[:, : config.LATENT_CHANNELS]
    decoded = vae.decoder(noisy(latents, torch.Generator().manual_seed(0))).clamp(-1, 1)
    return -10 * math.log10(float((decoded - images).square().mean()) / 4)


def _start(vae: AutoencoderKL, images: Tensor, generator: torch.Generator) -> code.Code:
    """Fits the code and gives both halves of `vae` their first weights."""
    fitted = code.fit(images, generator)
    fitted.save()
    views = crops(images, 24, 256, generator)
    code.fill_encoder(vae, fitted, views)
    code.start_decoder(vae, noisy(fitted.encode(views[:8]), generator), views[:8])
    return fitted


@dataclass
class Run:
    """Everything that a checkpoint holds; `kept` has the running average of the decoder."""

    vae: AutoencoderKL
    kept: AutoencoderKL
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    minutes: float = 0.0

    def save(self) -> None:
        """Writes the checkpoint."""
        torch.save(
            {
                "model": self.kept.state_dict(),
                "decoder": self.vae.decoder.state_dict(),
                "step": self.step,
                "optimisers": [o.state_dict() for o in self.optimisers],
                "minutes": self.minutes,
            },
            CHECKPOINT,
        )

    def resume(self, saved: dict[str, Any]) -> None:
        """Continues from what `save` wrote."""
        self.kept.load_state_dict(saved["model"])
        self.vae.load_state_dict(saved["model"])
        self.vae.decoder.load_state_dict(saved["decoder"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.step, self.minutes = saved["step"], saved["minutes"]

    def update(self, latents: Tensor, images: Tensor, factor: float) -> float:
        """One step; `factor` scales the learning rate. The loss."""
        optim.set_rate(self.optimisers, factor)
        with torch.autocast(latents.device.type, torch.bfloat16):
            decoded = self.vae.decoder(latents)
        value = loss(decoded.float(), images)
        value.backward()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            pairs = zip(self.kept.decoder.parameters(), self.vae.decoder.parameters(), strict=True)
            for mean, current in pairs:
                mean.lerp_(current, 1 - DECAY)
        return value.item()


def train(settings: config.Settings) -> None:
    """Trains the decoder for `settings.vae_minutes`: 128-px crops first, 256-px crops for the last 30 %."""
    saved = torch.load(CHECKPOINT, weights_only=True) if CHECKPOINT.exists() else None
    if saved and saved["minutes"] >= settings.vae_minutes:
        return
    images = pool(POOL)
    torch.manual_seed(config.SEED)
    generator = torch.Generator().manual_seed(config.SEED)
    vae = build().requires_grad_(False)
    vae.decoder.requires_grad_(True)
    held_out = crops(images[-HELD_OUT:], 8, 256, generator).to(settings.device)
    images = images[:-HELD_OUT]
    fitted = _start(vae, images, generator)
    vae = vae.to(settings.device, memory_format=torch.channels_last)
    run = Run(
        vae,
        copy.deepcopy(vae).requires_grad_(False),
        optim.build(vae.decoder, 0.006, 2e-3, ("conv_in", "conv_out", "conv_norm_out")),
    )
    if saved:
        run.resume(saved)
        generator.manual_seed(config.SEED + run.step)
    else:
        config.log("vae", step=0, psnr=psnr(vae, held_out))
    last = time.time()
    while (done := run.minutes / settings.vae_minutes) < 1:
        large = done > 0.7
        batch = crops(images, 1 if large else 4, 256 if large else 128, generator)
        latents = noisy(fitted.encode(batch), generator).to(settings.device)
        value = run.update(latents, batch.to(settings.device), min(1.0, (run.step + 1) / 30) * (1.02 - done))
        run.minutes += min(0.1, (time.time() - last) / 60)  # a pause does not count
        last = time.time()
        if run.minutes >= settings.vae_minutes or run.step % EVERY == 0:
            config.log("vae", step=run.step, loss=value, psnr=psnr(run.kept, held_out), minutes=run.minutes)
            run.save()
