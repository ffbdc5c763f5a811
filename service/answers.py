"""A job on the wire: the same bytes whether it is fetched, listed or told as an event."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response

from jobs.board import JobView
from service.conditional import weak_etag
from service.schemas import Job, job_out


def job_json(view: JobView) -> str:
    """The job as JSON."""
    return job_out(view).model_dump_json()


def job_answer(view: JobView, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response that is one job."""
    return Response(job_json(view), status, headers, media_type="application/json")


def job_etag(job: Job) -> str:
    """Changes whenever something happens to the job; the estimate alone, which changes with the clock, is left out."""
    return weak_etag(job.model_dump_json(exclude={"eta_seconds"}).encode())
