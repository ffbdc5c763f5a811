"""The model card of the exported model."""

import json

from . import config, models

TEXT = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [stable-diffusion, text-to-image, panorama]
---

# Demo model: stylised landscapes

A small latent diffusion model in Stable Diffusion's component layout. It paints stylised landscapes, so that the
service can be tried and tested end to end without downloading gigabytes. It is no general image model.

- **Prompts**: one of mountains, hills, desert, ocean, forest, city; a time of day (dawn, morning, noon, sunset, dusk,
  night); if wanted the weather (clear, cloudy, fog, rain, snow), a lake, the sun, the moon, stars. Other words are
  read, but mean nothing to it.
- **Sizes**: a view is 512x512 px, 64x64 latents of 8 px; panoramas are 512 px high and any width.
- **Parts**: UNet {unet_millions:.1f} M parameters, {gflops:.2f} GFLOP a view (channels {channels}); CLIP text encoder
  of two layers and width {text_width}, its tokenizer learnt from the captions; autoencoder with {latent_channels}
  latent channels, whose encoder is linear (principal components of 8x8-px patches) and whose decoder is a small CNN.
- **Noise schedule**: Stable Diffusion's, rescaled to zero terminal SNR; v-prediction; trailing timesteps.

## Training

- **Data**: scenes drawn by the code in `training/` from random attributes, {scenes} of 2048x512 px, each also mirrored;
  captions are composed from the same attributes. There is no foreign picture and no foreign text in it.
- **Decoder**: {vae_steps} steps in {vae_minutes:.0f} minutes, {psnr:.1f} dB PSNR on held-out crops, with the training
  noise on the latents.
- **UNet and text encoder**: {steps} steps of batch 24 in {minutes:.0f} minutes on {machine}; captions dropped in 10 %.
  Held-out mean squared error of v: {curve}.
- **Again**: `python -m training` repeats it with a fixed seed and resumes where it was stopped.

## Limits

Only what the scenes show; shapes are simple, and fine structures such as windows and tree tops are soft. The sun or
the moon is seldom painted, even where a prompt names it. Not for anything but trying the service.
"""


def _curve(stage: str) -> list[dict[str, float]]:
    path = config.RUNS / f"{stage}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def text(steps: int, minutes: float, device: str) -> str:
    """The card for a UNet of `steps` steps and `minutes` of training."""
    unet = models.unet()
    decoder = [line for line in _curve("vae") if "minutes" in line][-1]
    losses = [(int(line["step"]), line["held_out"]) for line in _curve("unet") if line["step"] <= steps]
    chosen = [losses[len(losses) * i // 5] for i in range(5)] + losses[-1:] if len(losses) > 5 else losses
    return TEXT.format(
        unet_millions=sum(p.numel() for p in unet.parameters()) / 1e6,
        gflops=models.flops(unet) / 1e9,
        channels="/".join(map(str, models.CHANNELS)),
        text_width=models.TEXT_WIDTH,
        latent_channels=config.LATENT_CHANNELS,
        scenes=f"{config.Settings.scenes:,}",
        vae_steps=decoder["step"],
        vae_minutes=decoder["minutes"],
        psnr=decoder["psnr"],
        steps=f"{steps:,}",
        minutes=minutes,
        machine="two CPU cores" if device == "cpu" else device,
        curve=", ".join(f"{value:.3f} at step {step:,}" for step, value in chosen),
    )
