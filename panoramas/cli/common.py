"""What all commands share: the application, options that occur in several commands, and how a command ends."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from panoramas._version import __version__
from panoramas.client import Client
from panoramas.errors import InvalidArgumentError

# typer's own tracebacks may show local variables, and with them the API key.
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

INTERRUPTED = 130
_HURRIED_SECONDS = 10.0  # to wait for a response, in a command that does not try again

Url = Annotated[str, typer.Option(envvar="PANORAMAS_URL", help="Address of the service.")]
ApiKey = Annotated[
    str, typer.Option(envvar="PANORAMAS_API_KEY", show_envvar=True, help="API key, if the service requires one.")
]
Patience = Annotated[float, typer.Option(min=0, help="Seconds to wait for a service that does not respond or is busy.")]
JobIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Out = Annotated[
    str, typer.Option("--out", "-o", help="The file to write: .png, .webp, .jpg or .avif; - is standard output.")
]
Format = Annotated[
    str | None, typer.Option("--format", help="png, webp, jpeg or avif, where the file's name does not say it.")
]
IdempotencyKey = Annotated[
    str | None, typer.Option(help="Your key: the same command again makes no second job, and Ctrl-C cancels none.")
]
Prompt = Annotated[str, typer.Argument(help="What the panorama shows.")]
Width = Annotated[int, typer.Option(help="Width in pixels.")]
Height = Annotated[int, typer.Option(help="Height in pixels.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the noise; default: a new one each time.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"panoramas {__version__}")
        raise typer.Exit


@app.callback()
def panoramas(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Text-to-panorama as a service: the client's commands and the server's processes."""


@contextmanager
def connected(url: str, api_key: str, patience: float) -> Iterator[Client]:
    """The client of a command. What it waits for is printed on standard error.

    Raises:
        InvalidArgumentError: naming the option at fault.
    """
    try:
        client = Client(url, api_key=api_key, timeout=None if patience else _HURRIED_SECONDS, patience=patience)
    except InvalidArgumentError as error:
        options = {"base_url": "--url (PANORAMAS_URL)", "api_key": "--api-key (PANORAMAS_API_KEY)"}
        name, _, rest = str(error).partition(" ")
        bare = name.rstrip(":")
        raise InvalidArgumentError(f"{options.get(bare, bare)}{name[len(bare) :]} {rest}") from None
    handler = _OnConsole()
    log = logging.getLogger("panoramas")
    log.addHandler(handler)
    try:
        with client:
            yield client
    finally:
        log.removeHandler(handler)


class _OnConsole(logging.Handler):
    """Prints above a progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(record.getMessage())


def print_json(value: Any) -> None:
    """Print a value for people and for jq."""
    typer.echo(json.dumps(value, indent=2))


def printable(text: str | Path) -> str:
    """The text without characters that control a terminal or have no encoding."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))


def quit_with(message: str, status: int = 1) -> NoReturn:
    """End the command with one line on standard error."""
    print(f"panoramas: {message}", file=sys.stderr)
    raise SystemExit(status)
