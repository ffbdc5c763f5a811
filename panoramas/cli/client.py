"""Commands that talk to a running service, apart from those that submit one panorama."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from panoramas.cli.common import (
    ApiKey,
    Format,
    JobIdArgument,
    Out,
    Patience,
    Url,
    app,
    connected,
    console,
    print_json,
    printable,
)
from panoramas.cli.output import Output
from panoramas.cli.painting import wait_and_save
from panoramas.client import DEFAULT_URL, PATIENCE_SECONDS
from panoramas.results import Job

# One look at a service: if it does not respond, the user wants to know at once.
AT_ONCE = 0.0


@app.command()
def batch(
    requests: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, allow_dash=True, help="JSON lines, or prompts in a .txt; - is stdin."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="The folder for the pictures.")],
    prompts: Annotated[bool, typer.Option("--prompts", help="Each line is a prompt, as in a .txt.")] = False,
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

    options: dict[str, Any] = {"concurrency": concurrency, "patience": patience, "prompts": prompts}
    options |= {"retry_failed": retry_failed, "dry_run": dry_run, "console": console}
    with connected(url, api_key, patience):  # checks the address and the key before the folder is made
        raise typer.Exit(run_batch(requests, out, url=url, api_key=api_key, **options))


@app.command()
def status(job_id: JobIdArgument, patience: Patience = AT_ONCE, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Print a job as JSON."""
    with connected(url, api_key, patience) as client:
        print_json(client.get(job_id).raw)


@app.command()
def cancel(job_id: JobIdArgument, patience: Patience = AT_ONCE, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Cancel a job: a queued one at once, a running one within a step."""
    with connected(url, api_key, patience) as client:
        print_json(client.cancel(job_id).raw)


@app.command()
def delete(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The jobs' ids.")],
    patience: Patience = AT_ONCE,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Delete ended jobs and their pictures."""
    with connected(url, api_key, patience) as client:
        for job_id in job_ids:
            client.delete(job_id)
            console.print(f"deleted {job_id}")


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only jobs of the batch with this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print each job as a line of JSON.")] = False,
    patience: Patience = AT_ONCE,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """List your jobs, newest first."""
    with connected(url, api_key, patience) as client:
        jobs = client.list(state=state, batch=batch, limit=limit)
        for line in (json.dumps(job.raw) for job in jobs) if as_json else _rows(jobs):
            typer.echo(line)


@app.command()
def models(patience: Patience = AT_ONCE, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Print models, schedulers, presets and the server's limits as JSON."""
    with connected(url, api_key, patience) as client:
        print_json(client.models())


@app.command()
def wait(
    job_id: JobIdArgument,
    out: Annotated[str | None, Out.__metadata__[0]] = None,
    form: Format = None,
    patience: Patience = PATIENCE_SECONDS,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Show a job's progress until it ends, and print it as JSON or save its picture. Ctrl-C only stops waiting."""
    with connected(url, api_key, patience) as client:
        output = Output.of(out, form) if out is not None else None
        job = wait_and_save(client, job_id, output)
        if output is None:
            print_json(job.raw)


def _rows(jobs: Iterable[Job]) -> Iterable[str]:
    for job in jobs:
        created = f"{job.created_at:%Y-%m-%d %H:%M:%S}" if job.created_at else ""
        prompt = printable(str((job.input or {}).get("prompt", "")))
        yield f"{job.id}  {job.state:<9}  {job.progress.fraction:>4.0%}  {created:<19}  {prompt[:60]}"
