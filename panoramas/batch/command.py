"""What `panoramas batch` shows, writes at the end, and exits with."""

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

Tell = Callable[[], None]

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
    retry_failed: bool,
    dry_run: bool,
    console: Console,
) -> int:
    """The whole command; returns its exit status: 0 when every line has its picture, 1 when some have none, 130.

    Raises:
        BatchError, ServiceError: it cannot begin or go on; what there is by then stays, and the same command goes on.
    """
    wanted = read_requests(requests)
    if dry_run and not folder.exists():
        typer.echo(f"{folder}: {len(wanted.items)} to submit")
        return 0
    with Manifest(folder, wanted) as manifest:
        if manifest.failed and retry_failed and not dry_run:
            manifest.record({"event": "retry", "lines": sorted(manifest.failed)})
        if dry_run:
            unsent, still = len(manifest.unsent()), len(manifest.open_lines)
            typer.echo(f"{_summary(manifest)}; {unsent} to submit, {still - unsent} submitted and not fetched yet")
            return 0
        interrupted = False
        try:
            try:
                _show(manifest, console, lambda tell: _run(manifest, url, api_key, concurrency, patience, tell))
            except KeyboardInterrupt:
                interrupted = True
            finally:
                _write_failures(manifest)
        except OSError as error:  # the folder's disk is full, or not ours
            raise BatchError(f"{folder}: {error}") from error
        typer.echo(_summary(manifest))
        if interrupted:
            console.print(
                "Interrupted. What was submitted is painted all the same; the same command goes on from here."
            )
            return INTERRUPTED
        return 1 if manifest.failed else 0


def _show(manifest: Manifest, console: Console, run: Callable[[Tell], Coroutine[Any, Any, None]]) -> None:
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        bar = progress.add_task("", total=len(manifest.requests.items))

        def tell() -> None:
            done, failed = len(manifest.done), len(manifest.failed)
            text = f"{len(manifest.chunk_of)} submitted, {failed} failed"
            progress.update(bar, completed=done + failed, description=text)

        tell()
        asyncio.run(run(tell))


async def _run(manifest: Manifest, url: str, api_key: str, concurrency: int, patience: float, tell: Tell) -> None:
    async with AsyncClient(url, api_key=api_key, patience=patience) as client:
        await Runner(client, manifest, concurrency=concurrency, tell=tell).run()


def _summary(manifest: Manifest) -> str:
    text = f"{manifest.folder}: {len(manifest.done)} of {len(manifest.requests.items)} pictures"
    return f"{text}, {len(manifest.failed)} failed ({FAILURES})" if manifest.failed else text


def _write_failures(manifest: Manifest) -> None:
    """A line for each failure with the request that it is about, so that it can be mended and sent again."""
    path = manifest.folder / FAILURES
    if not manifest.failed:
        path.unlink(missing_ok=True)
        return
    lines = []
    for line, entry in sorted(manifest.failed.items()):
        item = manifest.requests.items[line]
        told = {name: value for name, value in entry.items() if name != "event"}
        lines.append(json.dumps({**told, "file": item.file, "request": item.request}) + "\n")
    path.write_text("".join(lines))
