"""Commands that run the server's processes. Their code is in `panoramas.server`; the client's wheel leaves that out."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from panoramas.cli.common import Height, Out, Prompt, Seed, Width, app, quit_with

_GET_THE_SERVER = (
    "the server is not installed, only the client. Clone the project's repository and run `make serve`, or use its"
    " container images"
)


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on; PANORAMAS_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0 for a free one; PANORAMAS_PORT.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for jobs and images; PANORAMAS_DATA_DIR.")] = None,
) -> None:
    """Run the whole service on this machine: embedded Redis-protocol server, API, worker, webhooks. Ctrl-C stops it."""
    _require_server("service", "worker")
    from panoramas.server import roles

    roles.run_up(host=host, port=port, data_dir=data_dir)


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on; PANORAMAS_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; PANORAMAS_PORT.")] = None,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the API alone, on the Redis of PANORAMAS_REDIS_URL."""
    _require_server("service")
    from panoramas.server import roles

    roles.run_api(host=host, port=port, fd=fd)


@app.command()
def worker(
    check: Annotated[
        bool, typer.Option("--check", help="Run no worker; exit with 0 if this host has a living one, else with 1.")
    ] = False,
) -> None:
    """Run a worker, one for each GPU, on the Redis of PANORAMAS_REDIS_URL. On SIGTERM it finishes its job first."""
    _require_server("worker")
    from panoramas.server import roles

    raise typer.Exit(roles.check_worker() if check else roles.run_worker())


@app.command()
def webhooks(
    check: Annotated[
        bool, typer.Option("--check", help="Call nothing; exit with 0 if this host has a living process, else with 1.")
    ] = False,
) -> None:
    """Run a process that calls the webhooks of ended jobs, on the Redis of PANORAMAS_REDIS_URL. Any number may run."""
    _require_server("service")
    from panoramas.server import roles

    if check:
        raise typer.Exit(roles.check_webhooks())
    roles.run_webhooks()


@app.command()
def demo(
    prompt: Prompt,
    out: Out = "panorama.png",
    width: Width = 2048,
    height: Height = 512,
    seed: Seed = None,
) -> None:
    """Run the whole service for one panorama, then stop it; only the picture stays."""
    _require_server("service", "worker")
    from panoramas.server.demo import run_demo

    run_demo(prompt, out, {"width": width, "height": height, "seed": seed})


def _require_server(*extras: str) -> None:
    """Quit with one line when the server, or an extra that the command needs, is not installed."""
    if importlib.util.find_spec("panoramas.server") is None:
        quit_with(_GET_THE_SERVER)
    package_of = {"service": "fastapi", "worker": "torch"}  # a package that only this extra installs
    if missing := [extra for extra in extras if importlib.util.find_spec(package_of[extra]) is None]:
        install = f"pip install -e '.[{','.join(extras)}]'"
        quit_with(f"the extra {' and '.join(missing)} is not installed; in the checkout, run: {install}")
    _pin_imports()


def _pin_imports() -> None:
    """Make child processes import this installation, not a folder `service` or `jobs` of the working directory."""
    root = str(Path(__file__).resolve().parents[2])
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != root]
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *others])
    os.environ["PYTHONSAFEPATH"] = "1"
