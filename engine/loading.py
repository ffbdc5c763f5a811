"""From a model's name or folder to a loaded model. safetensors only: nothing of a model is ever executed."""

from __future__ import annotations

import torch
from transformers.utils.logging import disable_progress_bar

from engine.families import FAMILIES
from engine.families.stable_diffusion import StableDiffusion
from engine.files import find_files
from engine.speed.heap import keep_freed_memory
from recipe.errors import ModelError
from recipe.models import ModelSpec


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
        ModelError: when it is missing, incomplete, or nothing that the engine can paint rightly.
    """
    facts = spec.facts()
    files = find_files(spec)
    torch_dtype = _dtype(dtype)
    disable_progress_bar()  # it shows one bar a model, for milliseconds, amid the worker's log
    try:
        model = FAMILIES[facts.family].load(spec, files, device, torch_dtype, accelerated=accelerated)
    except ModelError as error:
        raise ModelError(f"model {spec.name!r}: {error}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"model {spec.name!r} cannot be read from {files.configs.origin}: {error}") from error
    if accelerated:
        set_process_up(device, torch_dtype)
    return model


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ModelError(f"dtype must be one of {', '.join(known)}; not {name!r}")
    return known[name]
