"""`panoramas generate`, `submit` and `repaint`: one flag for each field in `panoramas.params`."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from panoramas.cli.common import (
    ApiKey,
    Format,
    IdempotencyKey,
    Out,
    Patience,
    Prompt,
    Url,
    app,
    connected,
    print_json,
)
from panoramas.cli.output import Output
from panoramas.cli.painting import submit_and_save
from panoramas.cli.regions import parse_region
from panoramas.client import DEFAULT_URL, PATIENCE_SECONDS, Client
from panoramas.params import Flag, PanoramaParams
from panoramas.results import Job


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


def _with_flags(command: Callable[..., None], only: Collection[str] = ()) -> Callable[..., None]:
    """Give the command, in place of its `**params`, a parameter for each field; typer reads the signature."""
    fields = get_type_hints(PanoramaParams, include_extras=True)
    fields = {name: field for name, field in fields.items() if not only or name in only}
    own = inspect.signature(command, eval_str=True).parameters
    named = [parameter for parameter in own.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    signature = inspect.Signature(named + [_parameter(name, field) for name, field in fields.items()])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return command


@app.command()
@_with_flags
def generate(
    prompt: Prompt,
    out: Out = "panorama.png",
    form: Format = None,
    idempotency_key: IdempotencyKey = None,
    patience: Patience = PATIENCE_SECONDS,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    **params: Any,
) -> None:
    """Submit a panorama to a running service, show its progress, save the picture. Ctrl-C cancels the job."""
    with connected(url, api_key, patience) as client:
        _paint(client, partial(client.submit, prompt), params, out, form, idempotency_key)


@app.command()
@_with_flags
def submit(
    prompt: Prompt,
    idempotency_key: IdempotencyKey = None,
    patience: Patience = PATIENCE_SECONDS,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    **params: Any,
) -> None:
    """Submit a panorama and print the accepted job as JSON, without waiting for it."""
    with connected(url, api_key, patience) as client:
        print_json(client.submit(prompt, idempotency_key=idempotency_key, **_given(params)).raw)


@app.command()
@partial(_with_flags, only=("priority", "metadata", "webhook_url"))
def repaint(
    picture: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A PNG of this service.")],
    out: Out = "panorama.png",
    form: Format = None,
    idempotency_key: IdempotencyKey = None,
    patience: Patience = PATIENCE_SECONDS,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    **params: Any,
) -> None:
    """Paint the recipe inside a PNG again, show the progress, save the picture. Ctrl-C cancels the job."""
    with connected(url, api_key, patience) as client:
        _paint(client, partial(client.repaint, picture), params, out, form, idempotency_key)


def _paint(
    client: Client,
    submit: Callable[..., Job],
    params: dict[str, Any],
    out: str,
    form: str | None,
    idempotency_key: str | None,
) -> None:
    """Check the target, then submit. Under a key the job stays: the same command again would find it canceled."""
    output = Output.of(out, form)
    submit = partial(submit, idempotency_key=idempotency_key, **_given(params))
    submit_and_save(client, submit, output, keep=idempotency_key is not None)


def _given(params: dict[str, Any]) -> Any:
    return {name: value for name, value in params.items() if value is not None}
