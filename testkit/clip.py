"""CLIP's real tokenizer, and tiny text encoders with its vocabulary or of more layers, for a tiny model's folder."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.text import Conditioning
from recipe.fields import Recipe

_KINDS = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}


def write_clip_tokenizer(folder: Path, **config: Any) -> Path:
    """The files of the tokenizer of 49,408 tokens; `config` is of its own. Skips the test where the package is absent.

    Its list of merges is in the package `open-clip-torch`, which is never imported: `make setup-dev` installs it
    without what it needs.
    """
    found = importlib.util.find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package open-clip-torch, which holds CLIP's vocabulary, is not installed: make setup-dev")
    path = Path(found.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49_152 - 256 - 2 + 1]
    letters = _letters_of_bytes()
    pieces = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        stale.unlink()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    given = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(given))
    return folder


def _letters_of_bytes() -> list[str]:
    """One printable letter for each byte, as OpenAI ordered them: printable ones first, then the others from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [256 + index for index in range(256 - len(printable))]
    return [chr(code) for code in (*printable, *others)]


def with_real_vocabulary(folder: Path) -> Path:
    """The tiny model in `folder` with CLIP's tokenizer; an SDXL's second one pads with "!", as in the published one."""
    for end in _ends(folder):
        pad = {"pad_token": "!"} if end else {}
        write_clip_tokenizer(folder / f"tokenizer{end}", **pad)
        # As SDXL's configurations say, though the end mark is 49407
        _write_encoder(folder, end, vocab_size=49_408, bos_token_id=0, eos_token_id=2, pad_token_id=1)
    return folder


def with_text_layers(folder: Path, layers: int) -> Path:
    """The tiny model in `folder` with text encoders of as many layers."""
    for end in _ends(folder):
        _write_encoder(folder, end, num_hidden_layers=layers)
    return folder


def _ends(folder: Path) -> list[str]:
    return [end for end in _KINDS if (folder / f"text_encoder{end}").exists()]


def _write_encoder(folder: Path, end: str, **changes: int) -> None:
    kind = _KINDS[end]
    config = kind.config_class.from_pretrained(folder / f"text_encoder{end}")
    config.update(changes)
    torch.manual_seed(len(end))
    model = kind(config)
    with torch.no_grad():  # as trained ones have it: states whose mean is not 0
        final = next(module for name, module in model.named_modules() if name.endswith("final_layer_norm"))
        final.bias.normal_(-0.1, 0.1)
    model.save_pretrained(folder / f"text_encoder{end}")


def encoded(
    model: StableDiffusion, prompt: str, negative: str = "", syntax: str = "plain", **fields: Any
) -> Conditioning:
    """Embeddings of both prompts."""
    return model.encode(Recipe(prompt=prompt, negative_prompt=negative, prompt_syntax=syntax, **fields))


def tokenizer_in(folder: Path, end: str = "") -> Any:
    """The tokenizer of a model's folder."""
    return CLIPTokenizer.from_pretrained(folder, subfolder=f"tokenizer{end}")
