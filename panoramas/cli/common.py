"""What all commands share: the application, options that occur in several commands, and how a command ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from panoramas._version import __version__
from panoramas.client import Client
from panoramas.progress import follow

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
console = Console(stderr=True)

Url = Annotated[str, typer.Option(envvar="PANORAMAS_URL", help="Address of the service.")]
ApiKey = Annotated[
    str, typer.Option(envvar="PANORAMAS_API_KEY", show_envvar=True, help="API key, if the service requires one.")
]
JobIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The PNG file to write.")]
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


def submit_and_save(client: Client, prompt: str, out: Path, params: dict[str, Any]) -> None:
    """Submit one panorama, show its progress, write the PNG to `out`.

    Raises:
        PanoramasError: when the service refuses the request or the job fails.
    """
    if not out.parent.is_dir():
        quit_with(f"the folder {out.parent} does not exist")
    job = follow(client, client.submit(prompt, **params), console)
    out.write_bytes(client.image(job))
    for notice in job.notices:
        console.print(f"Note: {notice['detail']}")
    assert job.result  # `follow` returns only jobs that succeeded
    assert job.input
    seed, seconds = job.input["seed"], sum((job.timings or {}).values())
    typer.echo(f"{out}: {job.result.width}x{job.result.height}, seed {seed}, {seconds:.1f} s")


def print_json(value: Any) -> None:
    """Print a value for people and for jq."""
    typer.echo(json.dumps(value, indent=2))


def quit_with(message: str) -> NoReturn:
    """End the command with one line on standard error and status 1."""
    print(f"panoramas: {message}", file=sys.stderr)
    raise SystemExit(1)
