"""What handlers ask for, as annotated aliases."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from jobs import logs, tracing
from jobs.batches import Batch, Batches
from jobs.board import JobBoard, JobView
from jobs.listing import JobListing
from jobs.metrics import Figures
from jobs.outbox import Outbox
from jobs.quota import Quota
from jobs.settings import Settings
from jobs.store import ImageStore
from recipe.models import ModelSpec
from service.hub import Hub
from service.metrics import RequestMetrics
from service.pictures import Pictures
from service.problems import ProblemError
from service.schemas import ID_PATTERN
from service.webhooks.signing import Signer
from service.webhooks.targets import TargetRules


@dataclass(frozen=True, slots=True)
class Services:
    """What the application holds for its lifetime; the first model is the default. `signer` is None where no
    webhooks are called."""

    settings: Settings
    catalog: dict[str, ModelSpec]
    board: JobBoard
    store: ImageStore
    pictures: Pictures
    listing: JobListing
    hub: Hub
    quota: Quota
    batches: Batches
    outbox: Outbox
    targets: TargetRules
    signer: Signer | None
    requests: RequestMetrics
    figures: Callable[[], Awaitable[Figures]]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose jobs a request may see: the name of its API key, or nobody's in particular where there are no keys."""

    owner: str


# Dependencies are coroutines even where they wait for nothing: FastAPI sends plain functions to a thread.
async def _services(request: Request) -> Services:
    return request.app.state.services


Held = Annotated[Services, Depends(_services)]
BatchId = Annotated[str, Path(description="The id that the submit returned")]
JobId = Annotated[str, Path(pattern=ID_PATTERN, description="The id that the submit returned")]


async def _caller(request: Request) -> Owner:
    return Owner(request.state.owner)  # service.access has put it there


Caller = Annotated[Owner, Depends(_caller)]


async def _job(job_id: JobId, services: Held, caller: Caller) -> JobView:
    logs.set_job(job_id)
    tracing.annotate(panoramas__job_id=job_id)
    view = await services.board.get(job_id)
    if view is None or view.record.owner != caller.owner:
        raise no_such_job(job_id)
    if view.record.deleted:
        raise gone()
    return view


def gone() -> ProblemError:
    """410 for what was there once."""
    return ProblemError(410, "expired", "It has expired or was deleted")


def no_such_job(job_id: str) -> ProblemError:
    """404 for an id that was never given out, or whose record is long gone."""
    return ProblemError(404, "no-such-job", "There is no such job", f"job_id: {job_id} is unknown")


async def _batch(batch_id: BatchId, services: Held, caller: Caller) -> Batch:
    return await find_batch(batch_id, services, caller)


async def find_batch(batch_id: str, services: Services, caller: Owner) -> Batch:
    """A batch of the caller's.

    Raises:
        ProblemError: 404.
    """
    batch = await services.batches.get(batch_id) if re.fullmatch(ID_PATTERN, batch_id) else None
    if batch is None or batch.owner != caller.owner:
        raise no_such_batch(batch_id)
    return batch


def no_such_batch(batch_id: str) -> ProblemError:
    """404 for an id that was never given out, or whose record is long gone."""
    return ProblemError(404, "no-such-batch", "There is no such batch", f"batch_id: {batch_id} is unknown")


FoundBatch = Annotated[Batch, Depends(_batch)]
FoundJob = Annotated[JobView, Depends(_job)]
