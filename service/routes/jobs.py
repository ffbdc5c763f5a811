"""Get, list, cancel and delete jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Response

from jobs.listing import CURSOR_PATTERN
from jobs.record import State
from service.conditional import is_fresh
from service.dependencies import AppServices, CurrentCaller, JobId, RequestedJob, expired, find_batch, unknown_job
from service.job_response import job_etag, retry_after
from service.links import link
from service.openapi_responses import NOT_MODIFIED, problem_responses, response_header
from service.prefer_header import Prefer, wait_seconds
from service.problems import ProblemError
from service.schemas.jobs import Job, Jobs, job_schema

router = APIRouter(tags=["jobs"])

_JOB_HEADERS = {
    200: {
        "headers": {
            "ETag": response_header("Changes whenever something happens to the job"),
            "Retry-After": response_header(
                "Seconds until it is worth looking again, while the job has not ended", "integer"
            ),
            "Preference-Applied": response_header("The `wait=N` that was applied"),
        }
    }
}


@router.get(
    "/jobs/{job_id}",
    operation_id="getJob",
    summary="Look at a job",
    response_model=Job,
    responses={**_JOB_HEADERS, **NOT_MODIFIED, **problem_responses(404, 410, 422)},  # type: ignore[dict-item]
)
async def get_job(
    view: RequestedJob,
    services: AppServices,
    prefer: Prefer,
    if_none_match: Annotated[str | None, Header(description="304 when the job is still as it was")] = None,
) -> Response:
    """State, progress, and once it has succeeded the `result` with the image's address."""
    headers = {"Cache-Control": "private, no-cache"}
    seconds = wait_seconds(prefer, services.settings.max_wait)
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        view = await services.event_hub.wait(view, seconds)
    if not view.record.state.terminal:
        headers.update(retry_after(view))
    job = job_schema(view)
    headers["ETag"] = job_etag(job)
    if is_fresh(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(job.model_dump_json(), headers=headers, media_type="application/json")


@router.get(
    "/jobs",
    operation_id="listJobs",
    summary="List jobs",
    response_model=Jobs,
    responses={
        200: {"headers": {"Link": response_header('The next page, `rel="next"`, where there is one (RFC 8288)')}},
        **problem_responses(404, 422),
    },
)
async def list_jobs(
    services: AppServices,
    caller: CurrentCaller,
    response: Response,
    state: Annotated[State | None, Query(description="Only those in this state", examples=["succeeded"])] = None,
    batch: Annotated[str | None, Query(description="Only those of this batch")] = None,
    cursor: Annotated[
        str | None, Query(pattern=CURSOR_PATTERN, description="From `Link`: where the next page begins")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most jobs on a page", examples=[20])] = 20,
) -> Jobs:
    """Yours, newest first. Jobs that come meanwhile never shift a later page. Expired ones are listed by their batch
    alone, which knows them for as long as itself.
    """
    if batch is not None:
        await find_batch(batch, services, caller)
    page = await services.listing.page(caller.owner, state=state, batch=batch, cursor=cursor, limit=limit)
    if page.next_cursor:
        parameters = {"state": state, "batch": batch, "cursor": page.next_cursor, "limit": limit}
        query = urlencode({name: value for name, value in parameters.items() if value is not None})
        response.headers["Link"] = f'<{link("/jobs")}?{query}>; rel="next"'
    response.headers["Cache-Control"] = "private, no-cache"
    return Jobs(items=[job_schema(view) for view in await services.board.views(page.records)])


@router.post(
    "/jobs/{job_id}/cancel",
    operation_id="cancelJob",
    summary="Cancel a job",
    status_code=202,
    response_model=Job,
    responses={200: {"description": "The job had ended before", "model": Job}, **problem_responses(404, 410, 422)},
)
async def cancel_job(view: RequestedJob, services: AppServices, response: Response) -> Job:
    """Idempotent. A queued job is canceled at once, a running one within a step; an ended one stays as it is."""
    job_id = view.record.id
    if view.record.state.terminal:
        response.status_code = 200
        return job_schema(view)
    found = await services.board.cancel(job_id)
    canceled = await services.board.get(job_id) if found else None
    if canceled is None:
        raise unknown_job(job_id)
    return job_schema(canceled)


@router.delete(
    "/jobs/{job_id}",
    operation_id="deleteJob",
    summary="Delete a job and its image",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "Gone: the job and its image are 410 from now on"},
        **problem_responses(404, 409, 410, 422),
    },
)
async def delete_job(job_id: JobId, view: RequestedJob, services: AppServices) -> Response:
    """Only for a job that has ended; one that has not is a 409: cancel it first."""
    if view.record.state == State.EXPIRED:
        raise expired()
    if not view.record.state.terminal:
        detail = f"It is {view.record.state}. Cancel it first, then delete it."
        raise ProblemError("not-ended", detail, headers=retry_after(view))
    # The image is deleted first: after a crash in between, the record is still there for another try. The other order
    # could leave an image without a record.
    await asyncio.to_thread(services.store.delete_job, job_id)
    await services.board.delete(job_id)
    return Response(status_code=204)
