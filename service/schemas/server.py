"""The models that a server offers, and its health."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from recipe.presets import PRESETS
from recipe.request import default_size, default_weights
from service.model_catalog import ModelCatalog


class ModelInfo(BaseModel):
    """One model of the allow-list and its defaults."""

    name: str
    default: bool
    unavailable: str | None = Field(description="Why the model cannot be asked for; null where it can")
    family: str | None = Field(description="Kind of model; null, as what follows, while it is unavailable")
    window_px: int | None = Field(description="Side of one view in pixels: the smallest canvas along either axis")
    latent_factor: int | None = Field(description="Sizes are multiples of this")
    supports: list[str] = Field(description="What it can paint beside a prompt: `regions`")
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]] = Field(description="What each preset fills in for this model")
    embeddings: list[str] = Field(description="Textual inversions that its prompts can name")


class Models(BaseModel):
    """What can be asked for on this server."""

    items: list[ModelInfo]
    schedulers: list[str]
    view_weights: list[str]
    limits: dict[str, int]


class Health(BaseModel):
    """State of a process."""

    status: Literal["ok"]
    workers: int | None = Field(None, description="Worker processes that take jobs, where that was asked for")
    workers_out: dict[str, str] | None = Field(
        None, description="Worker processes that are alive and take no jobs for now, and why, where that was asked for"
    )
    unavailable_models: dict[str, str] | None = Field(
        None, description="Models that cannot be asked for, and why, where that was asked for"
    )


def model_schema(name: str, catalog: ModelCatalog, max_width: int) -> ModelInfo:
    """The wire form of one model of the allow-list. Its default width is at most `max_width`."""
    facts = catalog.facts(name)
    defaults: dict[str, Any] = {}
    if facts:
        own = catalog[name].defaults
        defaults = {**default_size(facts, max_width), "view_weights": default_weights(own["view_stride"]), **own}
    return ModelInfo(
        name=name,
        default=name == catalog.default,
        unavailable=catalog.unavailable.get(name),
        family=facts.family if facts else None,
        window_px=facts.window_px if facts else None,
        latent_factor=facts.latent_factor if facts else None,
        supports=list(facts.supports) if facts else [],
        defaults=defaults,
        presets={preset: PRESETS[preset].values(facts) for preset in PRESETS} if facts else {},
        embeddings=list(catalog[name].embeddings),
    )
