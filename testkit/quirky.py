"""Tiny models with the quirks of real repositories: each changes one thing of the Stable Diffusion or XL of `tiny`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from testkit.tiny import XL_UNET, build_tiny_model, build_tiny_xl, tiny_unet

Change = Callable[[Path], None]


def edited(file: str, drop: tuple[str, ...] = (), **values: Any) -> Change:
    """Change keys of a JSON file; `drop` removes some."""

    def change(folder: Path) -> None:
        path = folder / file
        config = json.loads(path.read_text())
        config = {key: value for key, value in config.items() if key not in drop} | values
        path.write_text(json.dumps(config))

    return change


def scheduler(class_name: str, drop: tuple[str, ...] = (), **values: Any) -> Change:
    """Another scheduler class and other keys in its file."""
    return edited("scheduler/scheduler_config.json", drop, _class_name=class_name, **values)


def unet(**changes: Any) -> Change:
    """Another UNet, with weights of its own."""

    def change(folder: Path) -> None:
        torch.manual_seed(0)
        tiny_unet(16, **changes).save_pretrained(folder / "unet")

    return change


def xl_unet(**changes: Any) -> Change:
    """Another UNet of an SDXL."""
    return unet(**(XL_UNET | changes))


def vae(**changes: Any) -> Change:
    """Another VAE, with weights of its own."""

    def change(folder: Path) -> None:
        torch.manual_seed(0)
        known = AutoencoderKL.load_config(folder / "vae")
        config = {key: value for key, value in known.items() if not key.startswith("_")} | changes
        AutoencoderKL(**config).save_pretrained(folder / "vae")

    return change


def without_weights(file: str, *, like: str) -> Change:
    """Remove one weight whose name contains `like`."""

    def change(folder: Path) -> None:
        weights = load_file(folder / file)
        removed = next(name for name in sorted(weights) if like in name)
        save_file({name: value for name, value in weights.items() if name != removed}, folder / file, {"format": "pt"})

    return change


def in_half(folder: Path) -> None:
    """Only fp16 files, named as variants."""
    for path in sorted(folder.rglob("*.safetensors")):
        weights = {name: value.half() for name, value in load_file(path).items()}
        path.unlink()
        save_file(weights, path.with_suffix("").with_suffix(".fp16.safetensors"), {"format": "pt"})


def in_shards(folder: Path) -> None:
    """The UNet in several files."""
    module = UNet2DConditionModel.from_pretrained(folder / "unet")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    module.save_pretrained(folder / "unet", max_shard_size="100KB")


def as_pickles(folder: Path) -> None:
    """Only .bin files, as old repositories have."""
    for path in sorted(folder.rglob("*.safetensors")):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(load_file(path), path.with_name(f"{stem}.bin"))
        path.unlink()


def without_vocabulary(folder: Path) -> None:
    """A tokenizer that knows next to nothing."""
    for path in (folder / "tokenizer").iterdir():
        if path.name != "tokenizer_config.json":
            path.unlink()
    (folder / "tokenizer" / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}')
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")


def build(folder: Path, *changes: Change, xl: bool = False) -> Path:
    """A tiny model with these changes, in `folder`."""
    built = build_tiny_xl(folder) if xl else build_tiny_model(folder, window=16)
    for change in changes:
        change(built)
    return built
