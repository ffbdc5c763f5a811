"""Checks all items of a batch, then makes their jobs.

Each of the two reads the body from its file, so that a large batch does not fill the memory.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from redis.exceptions import RedisError

from jobs.batches import Batch, NewJob
from jobs.board import QueueFull
from recipe.errors import RecipeError
from service.dependencies import Services
from service.problems import MOST_FAULTS, FieldProblem, ProblemError, invalid_fields, invalid_request, problem_of
from service.request_body import batch_items, canonical_json, problems_of_item
from service.resolve_request import resolve_input, resolve_webhook_url
from service.schemas.requests import PanoramaRequest

log = logging.getLogger(__name__)

_MAX_REPORTED_ITEMS = 100  # invalid items whose problems are reported
_JOBS_PER_WRITE = 500  # jobs made in one step


@dataclass(slots=True)
class CheckedBatch:
    """The outcome of checking every item. Equal batches have equal digests."""

    accepted: int = 0
    refused: int = 0
    complete: bool = True  # whether every item was looked at
    errors: list[dict[str, Any]] = field(default_factory=list)
    problems: list[FieldProblem] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)

    @property
    def reports_enough(self) -> bool:
        """Whether further faults are counted and not described."""
        return len(self.errors) >= _MAX_REPORTED_ITEMS or len(self.problems) >= MOST_FAULTS

    def refuse(self, index: int, problems: list[FieldProblem]) -> None:
        self.refused += 1
        self.digest.update(b"-\n")
        if not self.reports_enough:
            own = [FieldProblem(pointer=_pointer_in_item(index, fault), detail=fault.detail) for fault in problems]
            self.errors.append({"index": index, "errors": [fault.model_dump(exclude_none=True) for fault in own]})
            self.problems += problems

    def accept(self, request: PanoramaRequest) -> None:
        self.accepted += 1
        self.digest.update(canonical_json(request) + b"\n")

    def refusal(self) -> ProblemError:
        """422 for the whole batch."""
        error = invalid_request(self.problems)
        total = self.accepted + self.refused
        looked_at = f"{total} items" if self.complete else f"the first {total} items"
        error.problem.detail = f"{self.refused} of {looked_at} are not valid; none was accepted"
        return error


def _pointer_in_item(index: int, problem: FieldProblem) -> str:
    return "#" + problem.pointer.removeprefix(f"#/items/{index}")


async def check_items(services: Services, file: IO[bytes], body_type: str, *, lenient: bool) -> CheckedBatch:
    """Check every item before any job is made; unless `lenient`, up to the first that are not valid.

    Raises:
        ProblemError: when the body is no batch, or has too many items.
    """
    checked = CheckedBatch()
    async for _ in services.slices.of(_checked(services, file, body_type, checked, lenient=lenient)):
        pass
    return checked


def _checked(
    services: Services, file: IO[bytes], body_type: str, checked: CheckedBatch, *, lenient: bool
) -> Iterator[None]:
    most = services.settings.max_batch_items
    for index, item in enumerate(batch_items(file, body_type, services.settings.max_body_bytes)):
        if not lenient and checked.reports_enough:
            checked.complete = False
            return
        if index >= most:
            raise invalid_request([FieldProblem(pointer="#/items", detail=f"must be at most {most}")])
        if isinstance(item, PanoramaRequest):
            try:
                resolve_input(services, item)
                resolve_webhook_url(services, item)
            except (ProblemError, RecipeError) as error:
                checked.refuse(index, problems_of_item(index, invalid_fields(error)))
            else:
                checked.accept(item)
        else:
            checked.refuse(index, item)
        yield


async def make_jobs(services: Services, batch: Batch, file: IO[bytes], body_type: str, *, resumable: bool) -> None:
    """Make the jobs of the valid items that have none yet.

    A batch that is not `resumable` has no idempotency key: when it cannot be accepted as a whole, it is taken back.

    Raises:
        QueueFull, RedisError: when nothing was accepted.
        ProblemError: when a part was; its detail says how many.
    """
    free, _ = await services.board.room(batch.owner)
    try:
        if batch.total - batch.accepted > free:
            raise QueueFull(retry_after=await services.board.pace_seconds())
        jobs: list[NewJob] = []
        async for job in services.slices.of(_new_jobs(services, file, body_type)):
            if job:
                jobs.append(job)
            if len(jobs) == _JOBS_PER_WRITE:
                await services.batches.fill(batch, jobs)
                jobs = []
        await services.batches.fill(batch, jobs)
    except (QueueFull, RedisError) as error:
        if not resumable:
            await _take_back(services, batch, error)
        await _say_what_was_accepted(services, batch, error, resumable=resumable)
        raise


async def _take_back(services: Services, batch: Batch, reason: Exception) -> None:
    try:
        await services.batches.withdraw(batch.id)
    except RedisError as error:
        log.warning("batch %s: not taken back after %s: %s", batch.id, reason, error)


async def _say_what_was_accepted(services: Services, batch: Batch, error: Exception, *, resumable: bool) -> None:
    """Raises the problem that `error` is, with the number of jobs that are there, unless there are none."""
    problem = problem_of(error)
    try:
        accepted = view.accepted if (view := await services.batches.get(batch.id)) else 0
    except RedisError:
        problem.problem.detail = "Some of the batch may have been accepted."
    else:
        if not accepted:
            return
        problem.problem.detail = f"{accepted} of {batch.total} jobs were accepted."
    again = " Send it again with the same Idempotency-Key: what is missing is added."
    problem.problem.detail += again if resumable else f" They are canceled; GET /batches/{batch.id} shows them."
    raise problem from error


def _new_jobs(services: Services, file: IO[bytes], body_type: str) -> Iterator[NewJob | None]:
    """The job of each item; None for one that is not valid."""
    for index, item in enumerate(batch_items(file, body_type, services.settings.max_body_bytes)):
        yield _new_job(services, index, item) if isinstance(item, PanoramaRequest) else None


def _new_job(services: Services, index: int, item: PanoramaRequest) -> NewJob | None:
    try:
        job_input, webhook_url = resolve_input(services, item), resolve_webhook_url(services, item)
    except (ProblemError, RecipeError):
        return None  # `check_items` has reported it
    priority = item.priority if "priority" in item.model_fields_set else "batch"
    return NewJob(index, job_input.values, item.metadata, priority, webhook_url, job_input.network_samples)
