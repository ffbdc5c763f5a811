"""Which files of a folder or repository are the model, by their names alone.

Weights are `.safetensors`, in full precision where they are there, else the fp16 variant. Pickles are never read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from recipe.configs import INDEX, ModelConfigs
from recipe.errors import ModelError

# How the files of a component's weights begin.
_STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
_OTHERS = ("scheduler", "tokenizer", "tokenizer_2")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pickle", ".pkl")
# What a source that is one file ends in; pickles are then refused by name.
FILE_ENDINGS = (".safetensors", *PICKLES)
HALF = "fp16"


@dataclass(frozen=True, slots=True)
class Choice:
    """`files` relative to the folder, sorted, without the index; `halves` are components of which fp16 is all there is,

    `missing` those without any weights.
    """

    files: tuple[str, ...]
    halves: frozenset[str]
    missing: tuple[str, ...]


def choose(names: Collection[str], configs: ModelConfigs) -> Choice:
    """Of the file names of a model.

    Raises:
        ModelError: when a component is there as a pickle alone.
    """
    by_folder: dict[str, list[PurePosixPath]] = {}
    for path in map(PurePosixPath, names):
        by_folder.setdefault(str(path.parent), []).append(path)
    files, halves, missing = [INDEX], set(), []
    for component in filter(configs.class_of, (*_STEMS, *_OTHERS)):
        there = by_folder.get(component, [])
        small = [str(path) for path in there if path.suffix in (".json", ".txt") and ".safetensors." not in path.name]
        files += small
        if component not in _STEMS:
            continue
        inside = {path.name for path in there}
        full, half = (_weights(inside, _STEMS[component], variant) for variant in ("", HALF))
        if not (full or half):
            _refuse_pickles(configs.origin, component, inside)
            missing.append(component)
        elif not full:
            halves.add(component)
        files += [f"{component}/{name}" for name in full or half]
    return Choice(tuple(sorted(files)), frozenset(halves), tuple(missing))


def _weights(names: set[str], stem: str, variant: str) -> list[str]:
    """One file, or shards with the list of what is where; empty where they are not all there."""
    dotted = f".{variant}" if variant else ""
    if (whole := f"{stem}{dotted}.safetensors") in names:
        return [whole]
    index = f"{stem}.safetensors.index{dotted}.json"
    shards = re.compile(rf"{stem}({re.escape(dotted)})?-(\d+)-of-(\d+)({re.escape(dotted)})?\.safetensors")
    found = [match for name in names if (match := shards.fullmatch(name))]
    if variant:
        found = [match for match in found if match[1] or match[4]]
    complete = found and {int(match[2]) for match in found} == set(range(1, int(found[0][3]) + 1))
    return [index, *sorted(match[0] for match in found)] if complete and index in names else []


def _refuse_pickles(origin: str, component: str, names: Iterable[str]) -> None:
    if pickles := sorted(name for name in names if name.endswith(PICKLES)):
        raise ModelError(
            f"{component}/{pickles[0]} of {origin} is a pickle, which could run code, and there is no .safetensors"
            f" beside it: convert a copy of the folder with `python -m engine.convert FOLDER`"
        )
