"""A model in diffusers' layout as one file with the names of the original training code, as most users have models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from recipe.single_file import CLIP, OPEN_CLIP, UNET, VAE, XL_CLIP, XL_OPEN_CLIP

Weights = dict[str, torch.Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
    "encoder.layers": "transformer.resblocks",
}


def write_single_file(folder: Path, path: Path, *extra: str, **added: torch.Tensor) -> Path:
    """The model in `folder` as one file; `extra` are names of empty keys, `added` further weights."""
    xl = (folder / "text_encoder_2").exists()
    weights: dict[str, Any] = {}
    unet = json.loads((folder / "unet" / "config.json").read_text())
    weights |= unet_weights(load_file(folder / "unet" / "diffusion_pytorch_model.safetensors"), unet)
    weights |= vae_weights(load_file(folder / "vae" / "diffusion_pytorch_model.safetensors"))
    text = load_file(folder / "text_encoder" / "model.safetensors")
    if xl:
        weights |= clip_weights(text, XL_CLIP)
        weights |= open_clip_weights(load_file(folder / "text_encoder_2" / "model.safetensors"), XL_OPEN_CLIP)
    elif json.loads((folder / "text_encoder" / "config.json").read_text())["hidden_act"] == "gelu":
        weights |= open_clip_weights(text, OPEN_CLIP)
    else:
        weights |= clip_weights(text, CLIP)
    weights |= {name: torch.empty(0) for name in extra} | added
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return path


def unet_weights(weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> Weights:
    """A UNet's."""
    each = config["layers_per_block"] + 1
    attended = [kind.startswith("CrossAttn") for kind in config["up_block_types"]]
    return {UNET + _unet_name(name, each, attended): weight for name, weight in weights.items()}


def _unet_name(name: str, each: int, attended: list[bool]) -> str:
    for theirs, original in _UNET_ENDS.items():
        if name.startswith(theirs + "."):
            return original + name.removeprefix(theirs)
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, number, rest = match[1], int(match[2]), match[3]
        return f"middle_block.{2 * number}.{_resnet(rest)}" if kind == "resnets" else f"middle_block.1.{rest}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
    assert match, name
    side, level, kind, number, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    blocks, first = ("input_blocks", 1) if side == "down" else ("output_blocks", 0)
    block = first + each * level + number
    if kind == "resnets":
        return f"{blocks}.{block}.0.{_resnet(rest)}"
    if kind == "attentions":
        return f"{blocks}.{block}.1.{rest}"
    last = first + each * level + each - 1
    if kind == "downsamplers":
        return f"{blocks}.{last}.0.{rest.replace('conv', 'op')}"
    return f"{blocks}.{last}.{2 if attended[level] else 1}.{rest}"


def _resnet(rest: str) -> str:
    layer, _, end = rest.rpartition(".")
    return f"{_RESNET[layer]}.{end}"


def vae_weights(weights: Mapping[str, torch.Tensor]) -> Weights:
    """A VAE's, whose attention was of convolutions."""
    levels = 1 + max(int(match[1]) for name in weights if (match := re.match(r"decoder\.up_blocks\.(\d+)", name)))
    found = {}
    for name, weight in weights.items():
        renamed = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", name)
        renamed = re.sub(r"down_blocks\.(\d+)", r"down.\1", renamed)
        renamed = re.sub(r"(down|up)(\.\d+)\.resnets", r"\1\2.block", renamed)
        renamed = re.sub(r"(down|up)samplers\.0", r"\1sample", renamed)
        renamed = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", renamed)
        renamed = renamed.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if match := re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.*)\.(weight|bias)", renamed):
            renamed = f"{match[1]}mid.attn_1.{_VAE_ATTENTION[match[2]]}.{match[3]}"
        is_attention = ".mid.attn_1." in renamed and weight.ndim == 2
        found[VAE + renamed] = weight[:, :, None, None] if is_attention else weight
    return found


def clip_weights(weights: Mapping[str, torch.Tensor], prefix: str) -> Weights:
    """Of OpenAI's CLIP, with the position numbers that old versions of transformers saved."""
    found = {f"{prefix}text_model.{name.removeprefix('text_model.')}": weight for name, weight in weights.items()}
    return found | {f"{prefix}text_model.embeddings.position_ids": torch.arange(77)[None]}


def open_clip_weights(weights: Mapping[str, torch.Tensor], prefix: str) -> Weights:
    """Of open_clip's CLIP, which keeps queries, keys and values in one."""
    found, three = {}, {}
    for name, weight in weights.items():
        bare = name.removeprefix("text_model.")
        if match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", bare):
            three[match[1], match[3], match[2]] = weight
        elif bare.startswith("text_projection"):
            found[f"{prefix}text_projection"] = weight.T
        elif bare.startswith("embeddings.position_embedding"):
            found[f"{prefix}positional_embedding"] = weight
        else:
            for theirs, original in _OPEN_CLIP.items():
                bare = bare.replace(theirs, original)
            found[prefix + bare] = weight
    for layer, kind in {key[:2] for key in three}:
        joined = torch.cat([three[layer, kind, part] for part in "qkv"])
        found[f"{prefix}transformer.resblocks.{layer}.attn.in_proj_{kind}"] = joined
    return found | {f"{prefix}logit_scale": torch.tensor(1.0)}
