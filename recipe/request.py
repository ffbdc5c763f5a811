"""From what was asked for to what will be painted: every default filled in."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from recipe.facts import ModelFacts
from recipe.field import Field
from recipe.fields import DEFAULTS, FIELDS, Recipe
from recipe.models import ModelSpec
from recipe.presets import PRESETS
from recipe.regions import read_regions

_LARGEST_UNIFORM_STRIDE = 16
# What a picture's recipe says of its making beside the fields of a request: no part of what may be asked for.
PROVENANCE = ("model_revision", "engine_version", "dtype", "device")

# Fields of a request that choose defaults for the others, and are no part of the recipe.
MODEL = Field(kind=str, max_length=100, help="A name from GET /models; null: the server's default")
PRESET = Field(
    kind=str,
    choices=tuple(PRESETS),
    help="Fills in what is left out, before the model's defaults do: from the original's way to a draft",
)


def _request_fields() -> dict[str, Field]:
    """The recipe's fields, with the model named beside the seed, where people look for it."""
    request: dict[str, Field] = {}
    for name, spec in FIELDS.items():
        request[name] = spec
        if name == "seed":
            request["model"] = MODEL
    return {**request, "preset": PRESET}


# What a request may say of the picture, in the order in which it is documented.
REQUEST_FIELDS: Mapping[str, Field] = MappingProxyType(_request_fields())


def resolve(request: Mapping[str, Any], spec: ModelSpec, *, max_width: int | None = None) -> Recipe:
    """`request` for a model: what is absent or null comes from the preset, then the model, then the table of fields.
    A region's negative prompt and guidance are the request's where it has none of its own.

    A seed that was not given is drawn. `max_width` bounds the width that a request leaves out.

    Raises:
        RecipeError: for what no model, or not this one, could paint.
        ModelError: when the model's facts cannot be read.
    """
    facts = spec.facts()
    given = {name: request[name] for name in FIELDS if request.get(name) not in (None, *FIELDS[name].as_null)}
    preset = PRESETS[request["preset"]].values(facts) if request.get("preset") else {}
    chosen = {"seed": secrets.randbelow(2**32), **default_size(facts, max_width), **spec.defaults, **preset, **given}
    common = {"negative_prompt": "", "guidance_scale": DEFAULTS["guidance_scale"], **chosen}
    chosen["regions"] = read_regions(chosen.get("regions", ()), common)
    recipe = Recipe(**{"view_weights": default_weights(chosen["view_stride"]), **chosen})
    recipe.check_fits(facts)
    return recipe


def default_size(facts: ModelFacts, max_width: int | None = None) -> dict[str, int]:
    """One view high and four wide, or as wide as a server allows, in pixels."""
    width = 4 * facts.window_px
    if max_width is not None:
        width = min(width, max(max_width - max_width % facts.latent_factor, facts.window_px))
    return {"width": width, "height": facts.window_px}


def default_weights(view_stride: int) -> str:
    """Plain means at the original's stride; where few views overlap, those would leave faint borders."""
    return "uniform" if view_stride <= _LARGEST_UNIFORM_STRIDE else "hann"
