"""The command `panoramas`: the service's roles, and a client of it."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from panoramas.client import DEFAULT_URL, Client
from panoramas.errors import PanoramasError
from panoramas.progress import follow

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Panoramas from text, as a service."
)
console = Console(stderr=True)

Url = Annotated[str, typer.Option(envvar="PANORAMAS_URL", help="Where the service is.")]
ApiKey = Annotated[str, typer.Option(envvar="PANORAMAS_API_KEY", show_envvar=True, help="Where the service wants one.")]
JobIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")]
Prompt = Annotated[str, typer.Argument(help="What the panorama shows.")]


def main() -> None:
    """Entry point: faults that a user can mend are one line on standard error and status 1."""
    try:
        app()
    except PanoramasError as error:
        _quit(str(error))


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on; PANORAMAS_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one; PANORAMAS_PORT.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs and images are kept; PANORAMAS_DATA_DIR.")] = None,
) -> None:
    """Run the whole service on this machine: embedded Redis-protocol server, API, worker, webhooks. Ctrl-C ends it."""
    _need("fastapi", "torch")
    from panoramas.local import LocalService, LocalServiceError

    service = LocalService(_served(_settings(host=host, port=port, data_dir=data_dir)))
    _log_to_stderr(service.settings)
    signal.signal(signal.SIGINT, service.interrupt)
    signal.signal(signal.SIGTERM, service.interrupt)
    try:
        with service:
            typer.echo(f"Panoramas are served at {service.url} (documentation: {service.url}/docs). Ctrl-C ends it.")
            service.run()
            typer.echo("Stopping; a running job is finished first. Ctrl-C again puts it back into the queue instead.")
    except LocalServiceError as error:
        _quit(str(error))


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on; PANORAMAS_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; PANORAMAS_PORT.")] = None,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the API alone, on the Redis of PANORAMAS_REDIS_URL."""
    _need("fastapi")
    import uvicorn

    from service.app import create_app

    settings = _settings(host=host, port=port)
    if fd is None:  # else who bound it has looked
        _served(settings)
    _log_to_stderr(settings, "api")
    uvicorn.run(
        create_app(settings, _redis_url(settings)),
        host=settings.host,
        port=settings.port,
        fd=fd,
        log_level=settings.log_level,
        log_config=None,
        access_log=settings.log_level == "debug",
        timeout_graceful_shutdown=5,
        server_header=False,
    )


@app.command()
def worker(
    check: Annotated[
        bool, typer.Option("--check", help="Only say, by status 0 or 1, whether this host's lives.")
    ] = False,
) -> None:
    """Run a worker, one for each GPU, on the Redis of PANORAMAS_REDIS_URL. SIGTERM lets it finish its job."""
    _need("torch")
    settings = _settings()
    if check:
        from worker.main import is_alive

        raise typer.Exit(0 if is_alive(_redis_url(settings)) else 1)
    _log_to_stderr(settings, "worker")
    from worker.main import run_worker

    raise typer.Exit(run_worker(settings, _redis_url(settings)))


@app.command()
def webhooks() -> None:
    """Run who calls webhooks at the end of jobs, on the Redis of PANORAMAS_REDIS_URL. Any number may run."""
    _need("fastapi")
    settings = _settings()
    if not settings.webhook_secrets:
        _quit("PANORAMAS_WEBHOOK_SECRET is not set: whsec_ and base64 of random bytes, the same on every API process")
    _log_to_stderr(settings, "webhooks")
    from service.webhooks.sender import send

    send(settings, _redis_url(settings))


@app.command()
def generate(
    prompt: Prompt,
    out: Out = Path("panorama.png"),
    negative_prompt: Annotated[str, typer.Option("--negative", help="What it should not show.")] = "",
    width: Annotated[int, typer.Option(help="Pixels.")] = 2048,
    height: Annotated[int, typer.Option(help="Pixels.")] = 512,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; default: the model's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: a new one each time.")] = None,
    model: Annotated[str | None, typer.Option(help="A name of GET /models; default: the server's.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Default: the model's.")] = None,
    stride: Annotated[int | None, typer.Option(help="Latent cells between views; default: the model's.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="How overlapping views are averaged; default: the model's.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="reference, quality, fast or draft.")] = None,
    circular: Annotated[bool, typer.Option("--circular", help="The right edge continues at the left one.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Submit a panorama to a running service, show its progress, save the picture."""
    params: dict[str, Any] = {
        "negative_prompt": negative_prompt,
        "width": width,
        "height": height,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "seed": seed,
        "model": model,
        "scheduler": scheduler,
        "view_stride": stride,
        "view_weights": weights,
        "preset": preset,
        "circular": circular,
    }
    with Client(url, api_key=api_key) as client:
        _generate(client, prompt, out, params)


@app.command()
def batch(
    requests: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON lines, or prompts in a .txt.")],
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="The folder of the pictures.")],
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Pictures fetched at once.")] = 8,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a service that is away.")] = 300.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Submit anew what has failed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is left to do.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Submit every line of a file and fetch the pictures. The same command goes on after an interruption.

    Exit status: 0 all pictures are there, 1 some failed (failures.jsonl) or it cannot go on, 130 interrupted.
    """
    from panoramas.batch.command import run_batch

    options: dict[str, Any] = {"concurrency": concurrency, "patience": patience}
    options |= {"retry_failed": retry_failed, "dry_run": dry_run, "console": console}
    raise typer.Exit(run_batch(requests, out, url=url, api_key=api_key, **options))


@app.command()
def demo(
    prompt: Prompt,
    out: Out = Path("panorama.png"),
    width: Annotated[int, typer.Option(help="Pixels.")] = 2048,
    height: Annotated[int, typer.Option(help="Pixels.")] = 512,
    seed: Annotated[int | None, typer.Option(help="Default: a new one each time.")] = None,
) -> None:
    """Run the whole service for one panorama and end it again; nothing but the picture stays."""
    _need("fastapi", "torch")
    from panoramas.local import LocalService, LocalServiceError

    with tempfile.TemporaryDirectory(prefix="panoramas-") as folder:
        log_file = Path(folder) / "log"
        os.environ["PANORAMAS_API_KEYS"] = ""  # its one client is this process
        settings = _settings(host="127.0.0.1", port=0, data_dir=Path(folder) / "data")
        service = LocalService(settings, log_file, webhooks=False)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: through every `finally`
        try:
            with console.status("starting the service"):
                service.__enter__()
            try:
                with Client(service.url, api_key="") as client:
                    _generate(client, prompt, out, {"width": width, "height": height, "seed": seed})
            finally:
                with console.status("stopping the service"):
                    service.stop()
        except (PanoramasError, LocalServiceError) as error:
            logged = log_file.read_text(errors="replace")[-4000:] if log_file.exists() else ""
            _quit(f"{logged}\n{error}")


@app.command()
def status(job_id: JobIdArgument, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Print a job as JSON."""
    with Client(url, api_key=api_key) as client:
        _print_json(client.get(job_id).raw)


@app.command()
def cancel(job_id: JobIdArgument, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Cancel a job: a queued one at once, a running one within a step."""
    with Client(url, api_key=api_key) as client:
        _print_json(client.cancel(job_id).raw)


@app.command()
def wait(
    job_id: JobIdArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the picture here.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Follow a job to its end."""
    with Client(url, api_key=api_key) as client:
        job = follow(client, job_id, console)
        if out:
            out.write_bytes(client.image(job))
        _print_json(job.raw)


def _generate(client: Client, prompt: str, out: Path, params: dict[str, Any]) -> None:
    if not out.parent.is_dir():
        _quit(f"the folder {out.parent} does not exist")
    job = follow(client, client.submit(prompt, **params), console)
    out.write_bytes(client.image(job))
    for notice in job.notices:
        console.print(f"Note: {notice['detail']}")
    assert job.result  # as it has succeeded
    assert job.input
    seed, seconds = job.input["seed"], sum((job.timings or {}).values())
    typer.echo(f"{out}: {job.result.width}x{job.result.height}, seed {seed}, {seconds:.1f} s")


def _settings(**overrides: Any) -> Any:
    from pydantic import ValidationError

    from jobs.settings import Settings

    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
        settings.catalog  # noqa: B018 - a model list that cannot be read is told here, not by a process later
    except ValidationError as error:
        _quit("\n".join(f"PANORAMAS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()))
    except ValueError as error:
        _quit(str(error))
    return settings


def _served(settings: Any) -> Any:
    try:
        settings.check_exposure()
    except ValueError as error:
        _quit(str(error))
    return settings


def _redis_url(settings: Any) -> str:
    if settings.redis_url is None:
        _quit("PANORAMAS_REDIS_URL is not set; `panoramas up` runs everything with a server of its own")
    return settings.redis_url


def _need(*modules: str) -> None:
    """Client-only installations are told what is missing."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        _quit(f"{', '.join(missing)} not installed: pip install 'multidiffusion-service[service,worker]'")


def _log_to_stderr(settings: Any, role: str = "") -> None:
    from jobs import logs, tracing

    logs.setup(settings.log_level, settings.log_format)
    if role:
        tracing.setup(role)


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


def _quit(message: str) -> Any:
    print(f"panoramas: {message}", file=sys.stderr)
    raise SystemExit(1)
