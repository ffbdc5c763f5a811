"""The weights of a model where they lie: found, read and identified. safetensors only: nothing is ever executed."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from huggingface_hub import snapshot_download

from recipe.configs import ModelConfigs
from recipe.errors import ModelError
from recipe.models import ModelSpec
from recipe.source import configs_of

log = logging.getLogger(__name__)

_COMPONENTS = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae")
# The full-precision weights alone: a repository may hold fp16 and .bin copies of the same.
_FILES = ("*.json", "*.txt", "model.safetensors", "model-*.safetensors", "diffusion_pytorch_model.safetensors")
_HUB_PATTERNS = ["model_index.json", *(f"{component}/{name}" for component in _COMPONENTS for name in _FILES)]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's folder, what its configuration says, and what identifies its weights."""

    folder: Path
    configs: ModelConfigs
    revision: str

    def load(self, component: str, kind: Any, dtype: torch.dtype) -> Any:
        """A component of a class of diffusers or transformers, in `dtype`, on the CPU.

        Raises:
            ModelError: when a weight of it is missing.
            OSError, ValueError, RuntimeError: when its files are missing or hold something else.
        """
        named = {"torch_dtype" if issubclass(kind, ModelMixin) else "dtype": dtype}
        module, report = kind.from_pretrained(
            self.folder, subfolder=component, use_safetensors=True, output_loading_info=True, **named
        )
        if missing := sorted(report["missing_keys"]):
            raise ModelError(
                f"{component} of {self.folder} lacks {len(missing)} weights, such as {missing[0]}: the files are"
                " incomplete; download or convert the model again"
            )
        if unexpected := sorted(report["unexpected_keys"]):
            count, first = len(unexpected), unexpected[0]
            log.warning("%s of %s: %d weights have no place, such as %s", component, self.folder, count, first)
        return module

    def load_tokenizer(self, component: str, kind: Any, model: Any) -> Any:
        """A tokenizer that belongs to `model`.

        Raises:
            ModelError: when it lacks its vocabulary or its length.
        """
        tokenizer = kind.from_pretrained(self.folder, subfolder=component)
        size, length = model.config.vocab_size, model.config.max_position_embeddings
        if len(tokenizer) != size:
            raise ModelError(
                f"{component} of {self.folder} knows {len(tokenizer)} tokens and the text model {size}: its vocabulary"
                " is missing or another model's; copy vocab.json and merges.txt, or tokenizer.json, from the original"
            )
        if tokenizer.model_max_length > length:
            raise ModelError(
                f"{component}/tokenizer_config.json of {self.folder} has no model_max_length that the text model can"
                f" read; set it to {length}"
            )
        return tokenizer


def find_files(spec: ModelSpec) -> ModelFiles:
    """On this disk, or from the hub: from its local cache where the snapshot is whole, else over the network.

    Raises:
        ModelError
    """
    folder = spec.path or _download(spec)
    return ModelFiles(folder, configs_of(str(folder)), _revision(folder))


def _download(spec: ModelSpec) -> Path:
    try:
        return Path(snapshot_download(spec.source, revision=spec.revision, allow_patterns=_HUB_PATTERNS))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} cannot be had from the hub repository {spec.source}: {error}") from error


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
