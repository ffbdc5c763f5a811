"""Regions of a canvas, each painted from a prompt of its own (MultiDiffusion, arXiv 2302.08113, section 4.2)."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipe.errors import FieldError, RecipeError
from recipe.facts import ModelFacts
from recipe.field import MAX_PROMPT_CHARS, Field, described_field, fields_of

MAX_REGIONS = 16


def _share(default: float, help: str) -> Any:
    return described_field(default, kind=float, minimum=0, maximum=1, help=help)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A box of the canvas, in shares of its width and height, and what is painted there.

    A cell of the latents is in the box when its centre is, so boxes with a common side share no cell. On a circular
    canvas a box whose `left` is greater than its `right` crosses the edge.
    """

    prompt: str = described_field(
        ..., kind=str, nullable=False, max_length=MAX_PROMPT_CHARS, help="What the region shows"
    )
    left: float = _share(0.0, "Left side of the box, a share of the canvas's width; null: 0")
    top: float = _share(0.0, "Upper side of the box, a share of the canvas's height; null: 0")
    right: float = _share(
        1.0,
        "Right side of the box, a share of the canvas's width; null: 1. Less than `left`, on a circular canvas, the box"
        " crosses the edge",
    )
    bottom: float = _share(1.0, "Lower side of the box, a share of the canvas's height; null: 1")
    negative_prompt: str = described_field(
        "", kind=str, max_length=MAX_PROMPT_CHARS, help="What it should not show; null: the request's negative_prompt"
    )
    guidance_scale: float = described_field(
        7.5,
        kind=float,
        minimum=0,
        maximum=100,
        help="Classifier-free guidance in the region; null: the request's guidance_scale",
    )
    weight: float = described_field(
        1.0,
        kind=float,
        minimum=0.01,
        maximum=100,
        help="How much the region counts where it overlaps others, or what is around it in a soft border; null: 1",
    )

    def faults(self, *, circular: bool) -> dict[str, str | None]:
        """What is wrong with each field, by its name."""
        faults = {name: spec.fault(getattr(self, name)) for name, spec in REGION_FIELDS.items()}
        if not (faults["left"] or faults["right"]):
            faults["right"] = _right_fault(self.left, self.right, circular=circular)
        if not (faults["top"] or faults["bottom"]) and self.bottom <= self.top:
            faults["bottom"] = f"must be greater than top, {self.top:g}: the box is empty"
        return faults

    def size_faults(self, width: int, height: int, facts: ModelFacts) -> dict[str, str]:
        """What is wrong with the box on a canvas of `width` x `height` pixels, by the field's name."""
        factor = facts.latent_factor
        (left, right), (top, bottom) = self.columns(width // factor), self.rows(height // factor)
        empty = {"right": ("columns", right - left), "bottom": ("rows", bottom - top)}
        return {
            name: f"leaves no {kind} of the latents, of {factor} pixels each: the box must be larger"
            for name, (kind, count) in empty.items()
            if count == 0
        }

    def columns(self, width: int) -> tuple[int, int]:
        """First column and the one after the last, on a canvas of `width` cells; the latter exceeds `width` where the
        box crosses the edge."""
        first, last = _cells(self.left, self.right, width)
        return (first, last + width) if self.right < self.left else (first, last)

    def rows(self, height: int) -> tuple[int, int]:
        """First row and the one after the last, on a canvas of `height` cells."""
        return _cells(self.top, self.bottom, height)


# The fields of `Region` by name, in their order.
REGION_FIELDS: Mapping[str, Field] = fields_of(Region)


def read_regions(values: Sequence[Any], common: Mapping[str, Any] | None = None) -> tuple[Region, ...]:
    """Regions from JSON. What is absent or null comes from `common`, then from the table of fields.

    Raises:
        RecipeError: for unknown fields and values of other types, by their paths (`regions/1/left`).
    """
    if not isinstance(values, list | tuple):
        raise RecipeError((FieldError("regions", "must be a list"),))
    read = [value if isinstance(value, Region) else _read(value, common or {}) for value in values]
    errors = [
        FieldError(f"regions/{index}{'/' * bool(name)}{name}", fault)
        for index, value in enumerate(read)
        if isinstance(value, dict)
        for name, fault in value.items()
    ]
    if errors:
        raise RecipeError(tuple(errors))
    return tuple(value for value in read if isinstance(value, Region))


def _read(value: Any, common: Mapping[str, Any]) -> Region | dict[str, str]:
    """A region, or what is wrong with each field by its name ('' for the whole)."""
    if not isinstance(value, Mapping):
        return {"": "must be an object"}
    given = {name: item for name, item in value.items() if item is not None}
    faults = {name: "unknown field" for name in given if name not in REGION_FIELDS}
    faults |= {
        name: f"must be a {'text' if spec.kind is str else 'number'}"
        for name, spec in REGION_FIELDS.items()
        if name in given and not _is_of(given[name], spec.kind)
    }
    if "prompt" not in given:
        faults["prompt"] = "is required"
    if faults:
        return faults
    numbers = {name: float(given[name]) for name in given if REGION_FIELDS[name].kind is float}
    shared = {name: common[name] for name in ("negative_prompt", "guidance_scale") if name in common}
    return Region(**{**shared, **given, **numbers})


def _is_of(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, float) or (type(value) is int and abs(value) <= sys.maxsize)
    return isinstance(value, kind)


def parse_region(text: str) -> dict[str, Any]:
    """A region of the command line: `left,top,right,bottom:prompt`, or a JSON object with any of its fields.

    Raises:
        ValueError: when the text is neither.
    """
    try:
        if text.lstrip().startswith("{"):
            value: dict[str, Any] = json.loads(text)
            return value
        box, colon, prompt = text.partition(":")
        sides = [float(side) for side in box.split(",")] if colon else []
    except ValueError as error:
        raise ValueError(f"is neither left,top,right,bottom:prompt nor JSON: {error}") from error
    if len(sides) != 4:
        raise ValueError(f"is not left,top,right,bottom:prompt: {text!r}")
    return {**dict(zip(("left", "top", "right", "bottom"), sides, strict=True)), "prompt": prompt.strip()}


def _right_fault(left: float, right: float, *, circular: bool) -> str | None:
    if right > left or (circular and right < left):
        return None
    if right == left:
        return f"must be greater than left, {left:g}: the box is empty"
    return f"must be greater than left, {left:g}: only on a circular canvas can a box cross the edge"


def _cells(start: float, end: float, length: int) -> tuple[int, int]:
    """The cells whose centres are between two shares of `length`."""
    return math.ceil(start * length - 0.5), math.ceil(end * length - 0.5)
