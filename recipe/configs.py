"""The small configuration files of a model, read without any weight: from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recipe.errors import ModelError

# Components whose configuration is read where a model has them, and the file it is in.
CONFIG_FILES: Mapping[str, str] = {
    "unet": "unet/config.json",
    "transformer": "transformer/config.json",
    "vae": "vae/config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "text_encoder": "text_encoder/config.json",
    "text_encoder_2": "text_encoder_2/config.json",
}
INDEX = "model_index.json"

# Families of models.
STABLE_DIFFUSION, SDXL = "stable-diffusion", "sdxl"


@dataclass(frozen=True, slots=True)
class ModelConfigs:
    """`model_index.json` and the configuration of each component, by its name. `origin` is what messages name."""

    origin: str
    index: Mapping[str, Any]
    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last part of where it came from, which often says what was done to a model."""
        return Path(self.origin).name

    def with_scheduler(self, overrides: Mapping[str, Any]) -> ModelConfigs:
        """The same with keys of the scheduler configuration replaced."""
        if not overrides:
            return self
        scheduler = {**self.component("scheduler"), **overrides}
        return replace(self, components={**self.components, "scheduler": scheduler})

    def component(self, name: str) -> Mapping[str, Any]:
        """The configuration of a component.

        Raises:
            ModelError: when the model has none.
        """
        if name not in self.components:
            raise ModelError(f"{self.origin} has no {CONFIG_FILES[name]}")
        return self.components[name]

    def class_of(self, name: str) -> str | None:
        """The class that the index gives a component, or None."""
        entry = self.index.get(name)
        return str(entry[1]) if isinstance(entry, list) and len(entry) == 2 and entry[1] else None


def read_configs(folder: Path) -> ModelConfigs:
    """From a folder in diffusers' component layout.

    Raises:
        ModelError: when the index is missing, or a file is no JSON object.
    """
    if not (folder / INDEX).is_file():
        raise ModelError(f"{folder} is no model in diffusers' component layout: it has no {INDEX}")
    found = {name: folder / path for name, path in CONFIG_FILES.items() if (folder / path).is_file()}
    return ModelConfigs(str(folder), read_json(folder / INDEX), {name: read_json(path) for name, path in found.items()})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelError
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value
