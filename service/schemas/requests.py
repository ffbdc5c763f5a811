"""The bodies that clients send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from jobs.record import Priority
from recipe.field import TEXT_PATTERN, defaults_of, fields_of
from recipe.field import Field as RecipeField
from recipe.fields import DEFAULTS, Recipe
from recipe.models import ModelSpec
from recipe.request import REQUEST_FIELDS, resolve

MAX_METADATA_BYTES = 16 * 1024


def _check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """Check that the object fits into the job record and survives a round trip through JSON."""
    size = len(json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"must be at most {MAX_METADATA_BYTES} bytes of JSON, not {size}")
    return value


Metadata = Annotated[dict[str, Any], AfterValidator(_check_metadata)]


def _wire_fields(specs: Mapping[str, RecipeField], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Declare fields of the recipe for pydantic."""
    return {name: _wire_field(spec, defaults.get(name)) for name, spec in specs.items()}


def _wire_field(spec: RecipeField, default: Any) -> tuple[Any, Any]:
    """Declare a field of the recipe for pydantic: its type, default, range and description."""
    minimum = min((spec.minimum, *spec.as_null)) if spec.as_null and spec.minimum is not None else spec.minimum
    limits: dict[str, Any] = {"ge": minimum, "le": spec.maximum, "max_length": spec.max_length or spec.max_items}
    if spec.kind is float:
        limits["allow_inf_nan"] = False
    if spec.required:
        limits["min_length"] = 1
    if spec.kind is str and not spec.choices:
        limits["json_schema_extra"] = {"pattern": TEXT_PATTERN}
    kind: Any = Literal[spec.choices] if spec.choices else spec.kind
    if spec.max_items is not None:
        kind = list[_wire_object(spec.kind)]  # type: ignore[misc]
    limited = Annotated[kind, Field(**{name: limit for name, limit in limits.items() if limit is not None})]
    if spec.nullable:
        return limited | None, Field(None, description=spec.help)
    return limited, Field(... if spec.required else default, description=spec.help)


def _wire_object(kind: type) -> Any:
    """The items of a list as a schema of their own."""
    summary = (kind.__doc__ or "").split("\n\n", maxsplit=1)[0]
    base = create_model("_Strict", __config__=ConfigDict(extra="forbid", strict=True))
    return create_model(
        kind.__name__, __base__=base, __doc__=summary, **_wire_fields(fields_of(kind), defaults_of(kind))
    )


_WireRecipe: Any = create_model("_WireRecipe", **_wire_fields(REQUEST_FIELDS, DEFAULTS))


class PanoramaRequest(_WireRecipe):
    """What to paint. Every field but `prompt` may be left out; null means the default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    if TYPE_CHECKING:
        model: str | None

    priority: Priority = Field(
        "interactive",
        description="`batch` is for work that nobody waits for: where both wait, four interactive jobs go before one",
    )
    metadata: Metadata = Field(
        default_factory=dict,
        description="Yours: any JSON object of up to 16 KiB, returned with the job, never interpreted",
    )
    webhook_url: str | None = Field(
        None,
        max_length=2048,
        description="Called once the job has ended, signed by Standard Webhooks; see `panoramaEnded`. A public https"
        " address, unless this server allows others",
        json_schema_extra={"format": "uri", "pattern": "^https?://"},
    )

    def requested_fields(self) -> dict[str, Any]:
        """The fields that differ from their defaults. Repeated submits are compared by them.

        An omitted field equals its default, so the comparison still holds when a later version adds fields.
        """
        return self.model_dump(exclude_defaults=True)

    def resolve(self, spec: ModelSpec, *, max_width: int) -> Recipe:
        """Fill in every default, and draw the seed if there is none. A width that is left out is at most `max_width`.

        Raises:
            RecipeError: when the model cannot paint the request.
        """
        return resolve(self.model_dump(include=set(REQUEST_FIELDS)), spec, max_width=max_width)


class BatchRequest(BaseModel):
    """Many panoramas."""

    model_config = ConfigDict(extra="forbid")

    items: list[PanoramaRequest] = Field(min_length=1, max_length=10_000)
