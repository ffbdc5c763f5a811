"""Tiny but real Stable Diffusions in diffusers' component layout, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SCALED_LINEAR = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}


# What an SDXL's UNet has beside the others.
XL_UNET: dict[str, Any] = {
    "cross_attention_dim": 64,
    "attention_head_dim": (2, 4),
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 16,
}


def tiny_unet(window: int, **changes: Any) -> UNet2DConditionModel:
    """A UNet of views of `window` latents; `changes` are of its configuration."""
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 32,
        "attention_head_dim": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(sample_size=window, **(config | changes))


def build_tiny_model(folder: Path, *, window: int = 64, weight_seed: int = 0) -> Path:
    """Write a Stable Diffusion of a few hundred kilobytes: views of `window` latents, latent factor 8."""
    torch.manual_seed(weight_seed)
    tokenizer = _tokenizer(folder / "tokenizer")
    unet = tiny_unet(window)
    CLIPTextModel(_text_config(tokenizer)).save_pretrained(folder / "text_encoder")
    unet.save_pretrained(folder / "unet")
    _vae(window).save_pretrained(folder / "vae")
    DDIMScheduler(**SCALED_LINEAR, clip_sample=False, set_alpha_to_one=False, steps_offset=1).save_pretrained(
        folder / "scheduler"
    )
    (folder / "model_index.json").write_text(json.dumps(_INDEX, indent=2))
    return folder


def build_tiny_xl(folder: Path, *, window: int = 16) -> Path:
    """Write an SDXL of a few hundred kilobytes: two text encoders, pooled embeddings, time ids, latent factor 8."""
    torch.manual_seed(0)
    encoders = (CLIPTextModel, CLIPTextModelWithProjection)
    for end, kind in zip(("", "_2"), encoders, strict=True):
        tokenizer = _tokenizer(folder / f"tokenizer{end}")
        kind(_text_config(tokenizer, projection_dim=16)).save_pretrained(folder / f"text_encoder{end}")
    tiny_unet(window, **XL_UNET).save_pretrained(folder / "unet")
    _vae(window).save_pretrained(folder / "vae")
    EulerDiscreteScheduler(**SCALED_LINEAR, steps_offset=1, timestep_spacing="leading").save_pretrained(
        folder / "scheduler"
    )
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    (folder / "model_index.json").write_text(json.dumps(_INDEX | index, indent=2))
    return folder


_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def _vae(window: int) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=window * 8,
    )


def _text_config(tokenizer: CLIPTokenizer, **changes: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **changes,
    )


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with an alphabet for a vocabulary: one token a letter."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), unk_token="<|endoftext|>", model_max_length=77
    )
    tokenizer.save_pretrained(folder)
    return tokenizer
