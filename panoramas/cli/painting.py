"""Submit, follow and save: what `generate`, `wait` and `demo` share. A painted picture is never lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import typer

from panoramas.cli.common import INTERRUPTED, console, printable
from panoramas.cli.output import Output, save_elsewhere
from panoramas.client import Client
from panoramas.errors import PanoramasError, ServiceError
from panoramas.progress import follow
from panoramas.results import Job


def submit_and_save(client: Client, submit: Callable[[], Job], output: Output, *, keep: bool = False) -> None:
    """Submit one panorama, show its progress, write the picture. Ctrl-C cancels the job, unless it is to `keep` it.

    Raises:
        PanoramasError: when the service refuses the request or the job fails.
        typer.Exit: when it was interrupted, or the picture could not be written where it should be.
    """
    try:
        job = submit()
    except KeyboardInterrupt:
        _interrupted("Interrupted. If the service has the job already, `panoramas list` shows it")
    try:
        done = follow(client, job, console)
    except KeyboardInterrupt:
        if not keep:
            _cancel(client, job)
        _leave(job)
    except ServiceError:
        console.print(f"Job {job.id} continues: `panoramas wait {job.id} -o FILE` waits again")
        raise
    save(client, done, output)


def wait_and_save(client: Client, job_id: str, output: Output | None) -> Job:
    """Show a job's progress until it ends, and write its picture. Ctrl-C only stops waiting.

    Raises:
        PanoramasError, typer.Exit: as `submit_and_save`.
    """
    try:
        job = follow(client, job_id, console)
    except KeyboardInterrupt:
        _leave(job_id)
    if output:
        save(client, job, output)
    return job


def save(client: Client, job: Job, output: Output) -> None:
    """Fetch the picture of a job that succeeded, and write it; elsewhere, if it cannot be written there any more."""
    again = f"`panoramas wait {job.id} -o FILE` fetches it"
    try:
        data, form = _fetch(client, job, output.format)
        reason = _write(output, data, form)
        if reason:
            place = save_elsewhere(data, f"panorama-{job.id}.{form}")
    except KeyboardInterrupt:
        _interrupted(f"Interrupted. The picture of job {job.id} is painted: {again}")
    except ServiceError:
        console.print(f"The picture of job {job.id} is painted, but was not received: {again}")
        raise
    if reason:
        console.print(printable(f"{reason}. {f'The picture was saved as {place}' if place else again}"))
        raise typer.Exit(1)
    _describe(job, output)


def _write(output: Output, data: bytes, form: str) -> str | None:
    """Write the picture; why it was not possible, or None."""
    if form != output.format:
        return f"The service has no {output.format} of this picture"
    try:
        output.write(data)
    except OSError as error:
        return f"{output} cannot be written any more: {error.strerror or error}"
    return None


def _fetch(client: Client, job: Job, form: str) -> tuple[bytes, str]:
    """The picture and its format: PNG where the service has no other one, as of a picture too large for it."""
    try:
        return client.image(job, format=form), form
    except ServiceError as error:
        if error.status != 406 or form == "png":
            raise
    return client.image(job), "png"


def _describe(job: Job, output: Output) -> None:
    for notice in job.notices:
        console.print(f"Note: {notice['detail']}")
    assert job.result  # it has succeeded
    seed, seconds = (job.input or {}).get("seed"), sum((job.timings or {}).values())
    text = f"{output}: {job.result.width}x{job.result.height}, seed {seed}, {seconds:.1f} s"
    typer.echo(printable(text), err=output.path is None)


def _cancel(client: Client, job: Job) -> NoReturn:
    try:
        state = client.cancel(job).state
    except (PanoramasError, KeyboardInterrupt) as error:
        reason = f": {error}" if isinstance(error, PanoramasError) else ""
        _interrupted(f"Interrupted. Job {job.id} was not canceled{reason}; `panoramas cancel {job.id}` cancels it")
    match state:
        case "canceled":
            _interrupted(f"Interrupted: job {job.id} is canceled")
        case "succeeded":
            _interrupted(f"Interrupted, but job {job.id} has succeeded: `panoramas wait {job.id} -o FILE` fetches it")
        case "running":
            _interrupted(f"Interrupted: job {job.id} ends within a step")
    _interrupted(f"Interrupted: job {job.id} has {state}")


def _leave(job: Job | str) -> NoReturn:
    name = job if isinstance(job, str) else job.id
    _interrupted(
        f"Interrupted. Job {name} continues: `panoramas wait {name}` waits again, `panoramas cancel {name}` cancels it"
    )


def _interrupted(message: str) -> NoReturn:
    console.print(printable(message))
    raise typer.Exit(INTERRUPTED)
