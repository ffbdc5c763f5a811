"""Commands that talk to a running service, apart from `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from panoramas.cli.common import ApiKey, JobIdArgument, Url, app, console, print_json
from panoramas.client import DEFAULT_URL, Client
from panoramas.progress import follow


@app.command()
def batch(
    requests: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON lines, or prompts in a .txt.")],
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="The folder for the pictures.")],
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Pictures fetched at the same time.")] = 8,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a service that does not answer.")] = 300.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Submit again the lines that failed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what is left to do.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Submit every line of a file and fetch the pictures. After an interruption, run the same command again to resume.

    Exit status: 0 every picture was saved; 1 some lines failed (see failures.jsonl) or the run had to stop;
    130 interrupted.
    """
    from panoramas.batch.command import run_batch

    options: dict[str, Any] = {"concurrency": concurrency, "patience": patience}
    options |= {"retry_failed": retry_failed, "dry_run": dry_run, "console": console}
    raise typer.Exit(run_batch(requests, out, url=url, api_key=api_key, **options))


@app.command()
def status(job_id: JobIdArgument, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Print a job as JSON."""
    with Client(url, api_key=api_key) as client:
        print_json(client.get(job_id).raw)


@app.command()
def cancel(job_id: JobIdArgument, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Cancel a job: a queued one at once, a running one within a step."""
    with Client(url, api_key=api_key) as client:
        print_json(client.cancel(job_id).raw)


@app.command()
def wait(
    job_id: JobIdArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the picture to this file.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Show a job's progress until it ends."""
    with Client(url, api_key=api_key) as client:
        job = follow(client, job_id, console)
        if out:
            out.write_bytes(client.image(job))
        print_json(job.raw)
