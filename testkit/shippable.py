"""Tiny models that can be one file: CLIP's whole vocabulary, and the real models' values of what shapes do not tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engine.clip_vocabulary import clip_tokenizer
from recipe.packaged import packaged

# Normalisation is in 32 groups, and heads have 64 channels, in every real model but 1.x, which has 8 heads.
_SIZES: dict[str, dict[str, Any]] = {
    "unet": {
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    },
    "vae": {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1},
    "text_encoder": {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 1},
}
_SECOND_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 1,
    "projection_dim": 16,
}
_XL_UNET = {
    "block_out_channels": [64, 128],
    "attention_head_dim": [1, 2],
    "cross_attention_dim": 32 + 64,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2],
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 16,
}
CLASSES = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}


def build_shippable(folder: Path, kind: str) -> Path:
    """A tiny model of a packaged kind (sd15, sd20, sd21v, sdxl) in diffusers' layout, with views as large as theirs."""
    torch.manual_seed(0)
    known = packaged(kind, kind)
    sizes = _SIZES | ({"unet": _SIZES["unet"] | _XL_UNET, "text_encoder_2": _SECOND_TEXT} if kind == "sdxl" else {})
    if kind in ("sd20", "sd21v"):
        sizes = sizes | {"unet": sizes["unet"] | {"block_out_channels": [64, 128], "attention_head_dim": [1, 2]}}
        sizes["text_encoder"] = sizes["text_encoder"] | {"num_hidden_layers": 23}  # of the file's 24
    for component in CLASSES:
        if component in known.components:
            build_component(component, {**known.component(component), **sizes[component]}).save_pretrained(
                folder / component
            )
    for component in ("tokenizer", "tokenizer_2"):
        if component in known.components:
            clip_tokenizer(CLIPTokenizer, **known.component(component)).save_pretrained(folder / component)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(known.component("scheduler")))
    (folder / "model_index.json").write_text(json.dumps(known.index))
    return folder


def build_component(component: str, config: dict[str, Any]) -> Any:
    """With random weights."""
    kind = CLASSES[component]
    if component.startswith("text"):
        return kind(CLIPTextConfig(**config))
    return kind.from_config(config)


def full_size(kind: str) -> dict[str, Any]:
    """The components of a packaged kind as they are, without memory for their weights."""
    known = packaged(kind, kind)
    with init_empty_weights():
        return {
            name: build_component(name, dict(known.component(name))) for name in CLASSES if name in known.components
        }
