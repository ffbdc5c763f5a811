"""Textual inversions (arXiv 2208.01618): vectors that a text encoder is given as tokens of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from engine.inputs.text import PromptEncoder
from recipe.errors import ModelError

# Keys of SDXL's files, for its two text encoders in their order
_XL_KEYS = ("clip_l", "clip_g")


def with_embeddings(text: PromptEncoder, files: Mapping[str, str]) -> PromptEncoder:
    """`text` with the vectors in `files`, by the names that prompts call them by. Its models are changed.

    Raises:
        ModelError: naming the embedding whose file is missing, is none, or was made for another model.
    """
    if not files:
        return text
    ids: tuple[dict[str, tuple[int, ...]], ...] = tuple({} for _ in text.models)
    for name, path in files.items():
        vectors = _read(name, Path(path).expanduser(), len(text.models))
        for of_model, model, tokenizer, tensor in zip(ids, text.models, text.tokenizers, vectors, strict=True):
            _check(name, tensor, model, int(tokenizer.model_max_length) - 2)
            of_model[name.lower()] = _append(model, tensor)
    for model, tokenizer in zip(text.models, text.tokenizers, strict=True):
        _find_the_end_by_its_id(model, int(tokenizer.eos_token_id))
    return replace(text, embeddings=ids)


def revision_with(revision: str, files: Mapping[str, str]) -> str:
    """A model's revision with a digest of its textual inversions, which change its pictures."""
    if not files:
        return revision
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(Path(path).expanduser().read_bytes()).digest())
    return f"{revision}+embeddings:{digest.hexdigest()[:16]}"


def _read(name: str, path: Path, encoders: int) -> list[torch.Tensor]:
    """Vectors (n, width) for each text encoder.

    diffusers writes one tensor under the token's name, AUTOMATIC1111 under `emb_params`, and SDXL has two.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"embedding {name!r} cannot be read from {path}: {error}") from error
    known = next((keys for keys in (_XL_KEYS, ("emb_params",)) if set(keys) <= set(tensors)), tuple(tensors))
    if len(known) != encoders:
        raise ModelError(
            f"embedding {name!r} was made for another kind of model: {path} holds {', '.join(sorted(tensors))},"
            f" and this model has {encoders} text encoder{'s' * (encoders > 1)}"
        )
    if encoders > 1 and known != _XL_KEYS:
        raise ModelError(f"embedding {name!r}: {path} has no {' and '.join(_XL_KEYS)}")
    return [torch.atleast_2d(tensors[key]) for key in known]


def _check(name: str, vectors: torch.Tensor, model: Any, limit: int) -> None:
    width = model.get_input_embeddings().embedding_dim
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ModelError(
            f"embedding {name!r} was made for another model: its vectors have {vectors.shape[-1]} numbers, and this"
            f" model's have {width}"
        )
    if len(vectors) > limit:
        raise ModelError(f"embedding {name!r} has {len(vectors)} vectors; the text encoder reads {limit}")
    if not vectors.is_floating_point() or not bool(vectors.isfinite().all()):
        raise ModelError(f"embedding {name!r} holds something else than finite numbers")


def _append(model: Any, vectors: torch.Tensor) -> tuple[int, ...]:
    """More tokens for a text encoder; their ids."""
    table = model.get_input_embeddings()
    first = table.weight.shape[0]
    rows = torch.cat([table.weight.detach(), vectors.to(table.weight)])
    table.weight = nn.Parameter(rows, requires_grad=False)
    table.num_embeddings = len(rows)
    return tuple(range(first, len(rows)))


def _find_the_end_by_its_id(model: Any, eos: int) -> None:
    """The pooled state is the end mark's. Old configurations (SDXL's) take the highest id for it."""
    for module in model.modules():
        if getattr(module, "eos_token_id", None) == 2:
            module.eos_token_id = eos
