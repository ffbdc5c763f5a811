"""The flag `--region`, as on the engine's command line."""

from __future__ import annotations

import json
from typing import Any

import typer


def parse_region(text: str) -> dict[str, Any]:
    """`left,top,right,bottom:prompt`, or a JSON object with any field of a region, as a region of a request.

    Raises:
        typer.BadParameter: when the text is neither.
    """
    try:
        if text.lstrip().startswith("{"):
            value: dict[str, Any] = json.loads(text)
            return value
        box, colon, prompt = text.partition(":")
        sides = [float(side) for side in box.split(",")] if colon else []
    except ValueError as error:
        raise typer.BadParameter(f"is neither left,top,right,bottom:prompt nor JSON: {error}") from error
    if len(sides) != 4:
        raise typer.BadParameter(f"is not left,top,right,bottom:prompt: {text!r}")
    return {**dict(zip(("left", "top", "right", "bottom"), sides, strict=True)), "prompt": prompt.strip()}
