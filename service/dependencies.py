"""What handlers ask for, as annotated aliases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from engine.catalog import ModelSpec
from jobs.board import JobBoard, JobView
from jobs.settings import Settings
from jobs.store import ImageStore
from service.problems import ProblemError
from service.schemas import JOB_ID_PATTERN


@dataclass(frozen=True, slots=True)
class Services:
    """What the application holds for its lifetime; the first model is the default."""

    settings: Settings
    catalog: dict[str, ModelSpec]
    board: JobBoard
    store: ImageStore


def _services(request: Request) -> Services:
    return request.app.state.services


Held = Annotated[Services, Depends(_services)]
JobId = Annotated[str, Path(pattern=JOB_ID_PATTERN, description="The id that the submit returned")]


async def _job(job_id: JobId, services: Held) -> JobView:
    view = await services.board.get(job_id)
    if view is None:
        raise no_such_job(job_id)
    return view


def no_such_job(job_id: str) -> ProblemError:
    """404 for an id that was never given out, or whose record is long gone."""
    return ProblemError(404, "no-such-job", "There is no such job", f"job_id: {job_id} is unknown")


FoundJob = Annotated[JobView, Depends(_job)]
