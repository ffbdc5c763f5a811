"""HTTP responses that carry one job. The JSON is the same whether a job is fetched, listed or sent as an event."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fastapi import Response

from jobs.board import JobView
from service.conditional import weak_etag
from service.schemas.jobs import Job, job_schema


def job_json(view: JobView) -> str:
    """The job as JSON."""
    return job_schema(view).model_dump_json()


def job_response(view: JobView, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response whose body is one job."""
    return Response(job_json(view), status, headers, media_type="application/json")


def job_etag(job: Job) -> str:
    """An ETag that changes with the job. `eta_seconds` is left out because it changes every second by itself."""
    return weak_etag(job.model_dump_json(exclude={"eta_seconds"}).encode())


def retry_after(view: JobView) -> dict[str, str]:
    """`Retry-After`: half the estimated time to the job's end, within 1 and 30 seconds."""
    seconds = 2.0 if view.eta_seconds is None else view.eta_seconds / 2
    return {"Retry-After": str(min(max(math.ceil(seconds), 1), 30))}
