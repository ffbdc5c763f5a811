"""Stable Diffusion 1.5 and 2.1 as architectures with random weights, which is enough to measure speed and memory.

`python -m benchmarks.architectures 1.5 FOLDER` writes one to a folder, from which a worker can load it.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from engine import loading
from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.text import PromptEncoder, embed_with_one_clip
from engine.speed import accelerate
from recipe.facts import ModelFacts
from recipe.models import BUILTIN, DEMO_FOLDER
from testkit.pipelines import pipeline_of

_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# Where the two differ, from the configurations in their repositories. Everything else is diffusers' default.
_UNET: dict[str, dict[str, Any]] = {
    "1.5": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "2.1": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
}
_TEXT = {
    "1.5": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "2.1": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
}


def random_stable_diffusion(name: str, device: str, dtype: str, *, accelerated: bool = True) -> StableDiffusion:
    """The architecture of version `name`. Its tokenizer is the demo model's, which also makes 77 tokens."""
    torch.manual_seed(0)
    kind: torch.dtype = getattr(torch, dtype)
    tokenizer = CLIPTokenizer.from_pretrained(DEMO_FOLDER, subfolder="tokenizer")
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.device(device):
        text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **_TEXT[name], **ends))
        unet = UNet2DConditionModel(sample_size=64, **_UNET[name])
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        )
    for module in (text, unet, vae):
        module.requires_grad_(False).eval().to(dtype=kind, memory_format=torch.channels_last)
    if accelerated:
        accelerate(unet, vae.decoder)
        loading.set_process_up(device, kind)
    return StableDiffusion(
        spec=BUILTIN[name],
        revision="random",
        text=PromptEncoder((tokenizer,), (text,), embed_with_one_clip),
        unet=unet,
        vae=vae,
        facts=ModelFacts(schedule=_SCHEDULER),
        device=torch.device(device),
        dtype=kind,
    )


if __name__ == "__main__":
    device = loading.default_device()
    painted = random_stable_diffusion(sys.argv[1], device, loading.default_dtype(device))
    pipeline_of(StableDiffusionPipeline, painted).save_pretrained(sys.argv[2])
