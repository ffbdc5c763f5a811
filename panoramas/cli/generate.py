"""`panoramas generate`: one flag for each field in `panoramas.params`."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from panoramas.cli.common import ApiKey, Out, Prompt, Url, app, submit_and_save
from panoramas.cli.regions import parse_region
from panoramas.client import DEFAULT_URL, Client
from panoramas.params import Flag, PanoramaParams


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter("must be a JSON object")
    return value


def _parameter(name: str, field: Any) -> inspect.Parameter:
    """A field of the request as a parameter that typer turns into a flag; None means that the flag was not given."""
    kind, flag = get_args(field)
    assert isinstance(flag, Flag)
    kinds = get_args(kind) if get_origin(kind) is types.UnionType else (kind,)
    spelling = f"--{(flag.name or name).replace('_', '-')}"
    options: dict[str, Any] = {"help": flag.help}
    if get_origin(kind) is Mapping:
        kinds, options["parser"], options["metavar"] = (Any,), _json_object, "JSON"
    elif get_origin(kinds[0]) is Sequence:
        kinds, options["parser"], options["metavar"] = (list[Any],), parse_region, "LEFT,TOP,RIGHT,BOTTOM:PROMPT"
    elif bool in kinds and type(None) in kinds:
        spelling += f"/--no-{spelling.removeprefix('--')}"
    default = False if kind is bool else None
    optional: Any = Any if kinds[0] is Any else kinds[0] | None
    annotation = Annotated[optional, typer.Option(spelling, **options)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def generate(
    prompt: Prompt, out: Out = Path("panorama.png"), url: Url = DEFAULT_URL, api_key: ApiKey = "", **params: Any
) -> None:
    """Submit a panorama to a running service, show its progress, save the picture."""
    given = {name: value for name, value in params.items() if value is not None}
    with Client(url, api_key=api_key) as client:
        submit_and_save(client, prompt, out, given)


def _with_flags() -> inspect.Signature:
    """The signature of `generate` with a parameter for each field in place of `**params`."""
    fields = get_type_hints(PanoramaParams, include_extras=True)
    own = inspect.signature(generate, eval_str=True).parameters
    named = [parameter for parameter in own.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    return inspect.Signature(named + [_parameter(name, field) for name, field in fields.items()])


# typer reads both.
generate.__signature__ = _with_flags()  # type: ignore[attr-defined]
generate.__annotations__ = {
    name: parameter.annotation
    for name, parameter in generate.__signature__.parameters.items()  # type: ignore[attr-defined]
}
app.command()(generate)
