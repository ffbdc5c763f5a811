"""The models that a server offers, and its health."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from recipe.models import ModelSpec
from recipe.presets import PRESETS


class ModelInfo(BaseModel):
    """One model of the allow-list and its defaults."""

    name: str
    default: bool
    window_px: int = Field(description="Side of one view in pixels: the smallest canvas along either axis")
    latent_factor: int = Field(description="Sizes are multiples of this")
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]] = Field(description="What each preset fills in for this model")


class Models(BaseModel):
    """What can be asked for on this server."""

    items: list[ModelInfo]
    schedulers: list[str]
    view_weights: list[str]
    limits: dict[str, int]


class Health(BaseModel):
    """State of a process."""

    status: Literal["ok"]
    workers: int | None = Field(None, description="Worker processes that are alive, where that was asked for")


def model_schema(spec: ModelSpec, *, default: bool) -> ModelInfo:
    """The wire form of one model of the allow-list."""
    facts = spec.facts()
    return ModelInfo(
        name=spec.name,
        default=default,
        window_px=facts.window_px,
        latent_factor=facts.latent_factor,
        defaults=spec.defaults,
        presets={name: preset.values(facts) for name, preset in PRESETS.items()},
    )
