"""The command `panoramas batch`: progress bar, list of failures, exit status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from panoramas.async_client import AsyncClient
from panoramas.batch.manifest import Manifest
from panoramas.batch.requests import BatchError, read_requests
from panoramas.batch.runner import Runner

OnChange = Callable[[], None]

FAILURES = "failures.jsonl"
INTERRUPTED = 130


def run_batch(
    requests: Path,
    folder: Path,
    *,
    url: str,
    api_key: str,
    concurrency: int,
    patience: float,
    prompts: bool,
    retry_failed: bool,
    dry_run: bool,
    console: Console,
) -> int:
    """Run the command; returns its exit status: 0 every line has its picture, 1 some have none, 130 interrupted.

    Raises:
        BatchError, ServiceError: the run cannot start or continue. The same command later resumes it.
    """
    wanted = read_requests(requests, prompts=prompts)
    if dry_run and not folder.exists():
        typer.echo(f"{folder}: {len(wanted.items)} to submit")
        return 0
    with Manifest(folder, wanted) as manifest:
        if manifest.failed and retry_failed and not dry_run:
            manifest.record({"event": "retry", "lines": sorted(manifest.failed)})
        if dry_run:
            unsent, unfinished = len(manifest.unsent()), len(manifest.open_lines)
            typer.echo(f"{_summary(manifest)}; {unsent} to submit, {unfinished - unsent} submitted and not fetched yet")
            return 0
        interrupted = False
        try:
            try:
                _show(
                    manifest, console, lambda on_change: _run(manifest, url, api_key, concurrency, patience, on_change)
                )
            except KeyboardInterrupt:
                interrupted = True
            finally:
                _write_failures(manifest)
        except OSError as error:  # the disk is full, or the folder is not writable
            raise BatchError(f"{folder}: {error}") from error
        typer.echo(_summary(manifest))
        if interrupted:
            console.print("Interrupted. Submitted jobs are painted all the same; run the same command again to resume.")
            return INTERRUPTED
        return 1 if manifest.failed else 0


def _show(manifest: Manifest, console: Console, run: Callable[[OnChange], Coroutine[Any, Any, None]]) -> None:
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        bar = progress.add_task("", total=len(manifest.requests.items))

        def show() -> None:
            done, failed = len(manifest.done), len(manifest.failed)
            text = f"{len(manifest.chunk_of)} submitted, {failed} failed"
            progress.update(bar, completed=done + failed, description=text)

        show()
        asyncio.run(run(show))


async def _run(
    manifest: Manifest, url: str, api_key: str, concurrency: int, patience: float, on_change: OnChange
) -> None:
    async with AsyncClient(url, api_key=api_key, patience=patience) as client:
        await Runner(client, manifest, concurrency=concurrency, on_change=on_change).run()


def _summary(manifest: Manifest) -> str:
    text = f"{manifest.folder}: {len(manifest.done)} of {len(manifest.requests.items)} pictures"
    return f"{text}, {len(manifest.failed)} failed ({FAILURES})" if manifest.failed else text


def _write_failures(manifest: Manifest) -> None:
    """Write one line for each failure with its request, so that it can be corrected and sent again."""
    path = manifest.folder / FAILURES
    if not manifest.failed:
        path.unlink(missing_ok=True)
        return
    lines = []
    for line, entry in sorted(manifest.failed.items()):
        item = manifest.requests.items[line]
        details = {name: value for name, value in entry.items() if name != "event"}
        lines.append(json.dumps({**details, "file": item.file, "request": item.request}) + "\n")
    path.write_text("".join(lines))
