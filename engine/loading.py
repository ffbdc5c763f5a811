"""From a model's name or folder to a loaded model. safetensors only: nothing of a model is ever executed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub import snapshot_download
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from engine.attention import share_attention
from engine.heap import keep_freed_memory
from engine.model import StableDiffusion
from engine.text import TextEncoders
from engine.upsampling import fold_upsampling, is_faster_folded
from recipe.errors import ModelError
from recipe.facts import read_facts
from recipe.models import ModelSpec

_COMPONENTS = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae")
# The full-precision weights alone: a repository may hold fp16 and .bin copies of the same.
_FILES = ("*.json", "*.txt", "model.safetensors", "model-*.safetensors", "diffusion_pytorch_model.safetensors")
_HUB_PATTERNS = ["model_index.json", *(f"{component}/{name}" for component in _COMPONENTS for name in _FILES)]


def default_device() -> str:
    """CUDA where there is a device, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> str:
    """16 bits on a GPU, bfloat16 where it has it: that has float32's range, so that nothing overflows to black.

    float32 on a CPU, where a seed is then one picture on every machine.
    """
    if torch.device(device).type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def set_process_up(device: str, dtype: torch.dtype) -> None:
    """What a device wants of the whole process."""
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    elif dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # what is called full precision has 24 bits and not 11


def quicken(unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
    """Let the modules, which are where they will be used, compute the same with less."""
    share_attention(unet)
    if is_faster_folded(unet.device, unet.dtype):
        fold_upsampling(unet)
        fold_upsampling(vae.decoder)


def load_model(spec: ModelSpec, *, device: str, dtype: str = "float32") -> StableDiffusion:
    """Load every component of `spec` onto `device` in `dtype` (float32, bfloat16, float16).

    Raises:
        ModelError: when the folder or repository is missing or is no Stable Diffusion 1.x, 2.x or XL.
    """
    folder = spec.folder or _download(spec)
    index = _check_kind(folder)
    torch_dtype = _dtype(dtype)
    disable_progress_bar()  # one a model, of milliseconds, amid the worker's log
    try:
        text = _load_text(folder, index, torch_dtype)
        unet = UNet2DConditionModel.from_pretrained(
            folder, subfolder="unet", use_safetensors=True, torch_dtype=torch_dtype
        )
        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", use_safetensors=True, torch_dtype=torch_dtype)
        scheduler_config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"model {spec.name!r} cannot be read from {folder}: {error}") from error
    for module in (*text.models, unet, vae):
        module.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)
    quicken(unet, vae)
    set_process_up(device, torch_dtype)
    return StableDiffusion(
        spec=spec,
        revision=_revision(folder),
        facts=read_facts(folder),
        text=text,
        unet=unet,
        vae=vae,
        scheduler_config=scheduler_config,
        device=torch.device(device),
        dtype=torch_dtype,
    )


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ModelError(f"dtype must be one of {', '.join(known)}; not {name!r}")
    return known[name]


def _download(spec: ModelSpec) -> Path:
    """The hub's snapshot of a repository: from the local cache where it is whole, else over the network."""
    try:
        return Path(snapshot_download(spec.source, revision=spec.revision, allow_patterns=_HUB_PATTERNS))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} cannot be had from the hub repository {spec.source}: {error}") from error


def _load_text(folder: Path, index: dict[str, Any], dtype: torch.dtype) -> TextEncoders:
    suffixes = ("", "_2") if index.get("text_encoder_2") else ("",)
    classes = (CLIPTextModel, CLIPTextModelWithProjection)
    return TextEncoders(
        tokenizers=tuple(CLIPTokenizer.from_pretrained(folder, subfolder=f"tokenizer{end}") for end in suffixes),
        models=tuple(
            kind.from_pretrained(folder, subfolder=f"text_encoder{end}", use_safetensors=True, dtype=dtype)
            for end, kind in zip(suffixes, classes, strict=False)
        ),
        zero_negative=bool(index.get("force_zeros_for_empty_prompt", False)),
    )


def _check_kind(folder: Path) -> dict[str, Any]:
    """The model's index, when it is one of a Stable Diffusion 1.x, 2.x or XL."""
    try:
        index: dict[str, Any] = json.loads((folder / "model_index.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has no readable model_index.json: {error}") from error
    found = {name: (index.get(name) or [None, None])[1] for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
    wanted = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    second = "CLIPTextModelWithProjection" if index.get("text_encoder_2") else None
    if found != wanted | {"text_encoder_2": second}:
        raise ModelError(f"{folder} holds a {index.get('_class_name')}, not a Stable Diffusion 1.x, 2.x or XL")
    return index


def _revision(folder: Path) -> str:
    """What identifies the weights: the hub's commit, or for a plain folder a digest of what was loaded from it."""
    if folder.parent.name == "snapshots":
        return folder.name
    digest = hashlib.sha256()
    for path in sorted(path for name in _HUB_PATTERNS for path in folder.glob(name)):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"
