"""Submit a panorama."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from engine.params import PanoramaParams
from jobs.idempotency import Idempotency
from service.answers import job_answer
from service.dependencies import Caller, Held, Services
from service.preferences import Prefer, wait_seconds
from service.problems import FieldProblem, invalid
from service.responses import header, problems
from service.schemas import Job, PanoramaRequest, retry_after

router = APIRouter(tags=["panoramas"])

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
_HEADERS = {
    "Location": header("The job"),
    "Idempotency-Replayed": header("`true` when the Idempotency-Key has made this job before"),
    "Preference-Applied": header("The `wait=N` that was applied"),
}
ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The job has ended within the time of `Prefer: wait`", "model": Job, "headers": _HEADERS},
    202: {
        "description": "Accepted: the job will reach a terminal state",
        "headers": {**_HEADERS, "Retry-After": header("Seconds until it is worth looking", "integer")},
    },
}


@router.post(
    "/panoramas",
    operation_id="submitPanorama",
    summary="Submit a panorama",
    status_code=202,
    response_model=Job,
    responses={**ACCEPTED, **problems(422, 507)},
)
async def submit_panorama(
    body: PanoramaRequest, services: Held, caller: Caller, prefer: Prefer, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answers at once with the job; follow `Location` until its `state` is terminal.

    With an `Idempotency-Key` a repeated submit answers as the first did, with the job as it stands, and the header
    `Idempotency-Replayed: true`; another body under the same key is refused (422).
    """
    name, params = resolve(services, body)
    idempotency = Idempotency.of(idempotency_key, body.asked_for()) if idempotency_key else None
    view = await services.board.submit(
        uuid.uuid4().hex,
        {**asdict(params), "model": name},
        body.metadata,
        owner=caller.owner,
        priority=body.priority,
        idempotency=idempotency,
    )
    headers = {"Location": f"/jobs/{view.record.id}"}
    if view.replayed:
        headers["Idempotency-Replayed"] = "true"
    seconds = wait_seconds(prefer, services.settings.max_wait)
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        view = await services.hub.wait(view, seconds)
    if view.record.state.terminal and seconds is not None:
        return job_answer(view, status=200, headers=headers)
    return job_answer(view, status=202, headers={**headers, **retry_after(view)})


def resolve(services: Services, body: PanoramaRequest) -> tuple[str, PanoramaParams]:
    """The model's name and every parameter, within this server's limits.

    Raises:
        ProblemError, ParamsError: naming each field at fault.
        StoreFull: whatever was asked for.
    """
    services.store.check_room()
    name = body.model or next(iter(services.catalog))
    if name not in services.catalog:
        known = ", ".join(services.catalog)
        raise invalid([FieldProblem(pointer="#/model", detail=f"must be one of {known}; not {name!r}")])
    params = body.resolve(services.catalog[name])
    _check_limits(services, params.width, params.height, params.num_inference_steps)
    return name, params


def _check_limits(services: Services, width: int, height: int, steps: int) -> None:
    limits = services.settings
    too_much = [
        FieldProblem(pointer=f"#/{field}", detail=f"must be at most {most} on this server, not {value}")
        for field, value, most in (
            ("width", width, limits.max_width),
            ("height", height, limits.max_height),
            ("num_inference_steps", steps, limits.max_steps),
        )
        if value > most
    ]
    cost = width * height * steps
    if cost > limits.max_pixel_steps:
        detail = (
            f"width x height x num_inference_steps must be at most {limits.max_pixel_steps} on this server, not {cost}"
        )
        too_much.append(FieldProblem(pointer="#/num_inference_steps", detail=detail))
    if too_much:
        raise invalid(too_much)
