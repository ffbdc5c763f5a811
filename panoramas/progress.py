"""A job's progress on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from panoramas.client import Client, JobFailed

_INTERVAL = 0.3  # seconds between looks: somebody watches


def follow(client: Client, job_id: str, console: Console) -> dict[str, Any]:
    """Show a job until it has succeeded; Ctrl-C cancels it.

    Raises:
        JobFailed: when it ended in any other way.
        ServiceError
    """
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("submitted", total=1)
            for job in client.watch(job_id, interval=_INTERVAL):
                at = job["progress"]
                progress.update(bar, description=_describe(job), completed=at["step"], total=max(at["total_steps"], 1))
    except KeyboardInterrupt:
        client.cancel(job_id)
        console.print(f"canceled {job_id}")
        raise
    if job["state"] != "succeeded":
        raise JobFailed(job)
    return job


def _describe(job: dict[str, Any]) -> str:
    if job["state"] == "queued":
        ahead = job["queue_position"]
        return "waiting for a worker" if not ahead else f"queued, {ahead} ahead"
    text = job["progress"]["phase"] if job["state"] == "running" else job["state"]
    return f"{text}, attempt {job['attempt']}" if job["attempt"] > 1 else text
