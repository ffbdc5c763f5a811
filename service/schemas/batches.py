"""A batch, as clients see it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from jobs.batches import Batch as BatchRecord
from service.links import link
from service.problems import FieldProblem
from service.schemas.common import ID_PATTERN, utc_time


class ItemErrors(BaseModel):
    """What is wrong with one item of a batch."""

    index: int = Field(description="Which item, from 0")
    errors: list[FieldProblem]


class Counts(BaseModel):
    """Jobs of a batch by state."""

    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int


class Batch(BaseModel):
    """Many jobs under one id."""

    id: str = Field(pattern=ID_PATTERN)
    state: Literal["accepting", "running", "ended"] = Field(
        description="`accepting`: not every item has become a job yet. Where it stays so, the submit broke off; sent"
        " again under the same Idempotency-Key, it goes on"
    )
    created_at: datetime
    canceled_at: datetime | None
    total: int = Field(description="Items that were good")
    accepted: int = Field(description="Those that have become jobs")
    refused: int = Field(description="Items that were not good; only with `Prefer: handling=lenient`")
    counts: Counts
    eta_seconds: float | None = Field(
        description="Estimated seconds until all have ended; null where nothing is known or nothing is to come"
    )
    errors: list[ItemErrors] = Field(description="What was wrong with those refused, of the first hundred")
    links: dict[str, str]


def batch_schema(batch: BatchRecord, eta_seconds: float | None) -> Batch:
    """The wire form of a batch."""
    path = link(f"/batches/{batch.id}")
    running: Literal["running", "accepting"] = "running" if batch.complete else "accepting"
    return Batch(
        id=batch.id,
        state="ended" if batch.ended else running,
        created_at=utc_time(batch.created_at),
        canceled_at=utc_time(batch.canceled_at),
        total=batch.total,
        accepted=batch.accepted,
        refused=batch.refused,
        counts=Counts(**batch.counts),
        eta_seconds=eta_seconds,
        errors=[ItemErrors(**item) for item in batch.errors],
        links={
            "self": path,
            "jobs": link(f"/jobs?batch={batch.id}"),
            "cancel": f"{path}/cancel",
            "images": f"{path}/images.zip",
        },
    )
