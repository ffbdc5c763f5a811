"""A progress bar for a job."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from panoramas.client import Client
from panoramas.results import Job


def follow(client: Client, job: Job | str, console: Console) -> Job:
    """Show a job's progress until it has succeeded.

    Raises:
        JobFailed: when it ended in any other state.
        ServiceError
    """
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("submitted", total=1)
        for seen in client.watch(job):
            at, job = seen.progress, seen
            progress.update(bar, description=_describe(seen), completed=at.step, total=max(at.total_steps, 1))
    return client.wait(job)


def _describe(job: Job) -> str:
    if job.state == "queued":
        return "waiting for a worker" if not job.queue_position else f"queued, {job.queue_position} ahead"
    text = job.progress.phase if job.state == "running" else job.state
    return f"{text}, attempt {job.attempt}" if job.attempt > 1 else text
