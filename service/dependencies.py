"""What handlers depend on, as annotated aliases."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Path, Request

from jobs import logs, tracing
from jobs.batches import Batch, Batches
from jobs.board import JobBoard, JobView
from jobs.listing import JobListing
from jobs.metrics import Figures
from jobs.outbox import Outbox
from jobs.quota import Quota
from jobs.settings import Settings
from jobs.signed_urls import SignedUrls
from jobs.store import ImageStore
from jobs.store_identity import StoreAnnouncer
from service.cached import Cached
from service.event_hub import EventHub
from service.image_formats import ImageConverter
from service.metrics import RequestMetrics
from service.model_catalog import ModelCatalog
from service.problems import ProblemError
from service.schemas.common import ID_PATTERN
from service.schemas.server import Health
from service.slices import Slices
from service.webhooks.signing import Signer
from service.webhooks.targets import TargetRules


@dataclass(frozen=True, slots=True)
class Services:
    """Objects that live as long as the application. `signer` is None when this server calls no webhooks, `signed_urls`
    when it redirects nobody to the image store."""

    settings: Settings
    catalog: ModelCatalog
    board: JobBoard
    store: ImageStore
    announcer: StoreAnnouncer
    signed_urls: SignedUrls | None
    images: ImageConverter
    listing: JobListing
    event_hub: EventHub
    quota: Quota
    batches: Batches
    outbox: Outbox
    targets: TargetRules
    signer: Signer | None
    slices: Slices
    requests: RequestMetrics
    readiness: Cached[Health]
    figures: Callable[[], Awaitable[Figures]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. It may see the jobs of `owner`: the name of its API key, '' on a server without keys."""

    owner: str


# These are coroutines although some wait for nothing, because FastAPI runs plain functions in a thread.
async def _services(request: Request) -> Services:
    return request.app.state.services


AppServices = Annotated[Services, Depends(_services)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$",
        description="Yours, for one submit: sent again within 24 hours it makes no second job",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]
BatchId = Annotated[str, Path(description="The id that the submit returned")]
JobId = Annotated[str, Path(description="The id that the submit returned")]


async def _caller(request: Request) -> Caller:
    return Caller(request.state.owner)  # set by service.access


CurrentCaller = Annotated[Caller, Depends(_caller)]


async def _job(job_id: JobId, services: AppServices, caller: CurrentCaller) -> JobView:
    if not re.fullmatch(ID_PATTERN, job_id):
        raise unknown_job(job_id)
    logs.set_job(job_id)
    tracing.annotate(panoramas__job_id=job_id)
    view = await services.board.get(job_id)
    if view is None or view.record.owner != caller.owner:
        raise unknown_job(job_id)
    if view.record.deleted:
        raise expired()
    return view


def expired() -> ProblemError:
    """410 for a job or an image that existed and is deleted."""
    return ProblemError("expired")


def unknown_job(job_id: str) -> ProblemError:
    """404 for an id that no job has, or that belongs to another owner."""
    return ProblemError("no-such-job", f"job_id: {job_id[:100]} is unknown")


async def _batch(batch_id: BatchId, services: AppServices, caller: CurrentCaller) -> Batch:
    return await find_batch(batch_id, services, caller)


async def find_batch(batch_id: str, services: Services, caller: Caller) -> Batch:
    """Look up a batch of the caller.

    Raises:
        ProblemError: 404 when the caller has no such batch.
    """
    batch = await services.batches.get(batch_id) if re.fullmatch(ID_PATTERN, batch_id) else None
    if batch is None or batch.owner != caller.owner:
        raise unknown_batch(batch_id)
    return batch


def unknown_batch(batch_id: str) -> ProblemError:
    """404 for an id that no batch has, or that belongs to another owner."""
    return ProblemError("no-such-batch", f"batch_id: {batch_id[:100]} is unknown")


RequestedBatch = Annotated[Batch, Depends(_batch)]
RequestedJob = Annotated[JobView, Depends(_job)]
