"""From a model's name or folder to a loaded model. safetensors only: nothing of a model is ever executed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers.utils.logging import disable_progress_bar

from engine.families import FAMILIES
from engine.families.stable_diffusion import StableDiffusion
from engine.speed.heap import keep_freed_memory
from recipe.errors import ModelError
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
    """Settings of the whole process that a device needs."""
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    elif dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # TF32 has 11 bits where float32 promises 24


def load_model(spec: ModelSpec, *, device: str, dtype: str = "float32", accelerated: bool = True) -> StableDiffusion:
    """Load every component of `spec` onto `device` in `dtype` (float32, bfloat16, float16).

    `accelerated` is for comparisons: without it the modules stay as diffusers reads them.

    Raises:
        ModelError: when the folder or repository is missing or is no Stable Diffusion 1.x, 2.x or XL.
    """
    folder = spec.folder or _download(spec)
    index = _read_index(folder)
    family = next((family for family in FAMILIES if family.matches(index)), None)
    if family is None:
        raise ModelError(f"{folder} holds a {index.get('_class_name')}, not a Stable Diffusion 1.x, 2.x or XL")
    torch_dtype = _dtype(dtype)
    disable_progress_bar()  # it shows one bar a model, for milliseconds, amid the worker's log
    try:
        model = family.load(spec, folder, _revision(folder), index, device, torch_dtype, accelerated=accelerated)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"model {spec.name!r} cannot be read from {folder}: {error}") from error
    if accelerated:
        set_process_up(device, torch_dtype)
    return model


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


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / "model_index.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has no readable model_index.json: {error}") from error
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
