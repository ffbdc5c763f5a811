"""A job's image in the format that the client accepts, and its thumbnail."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from jobs.board import JobView
from jobs.record import State
from jobs.store import ImageDamaged, ImageMissing
from service.conditional import BadRange, byte_range, is_fresh
from service.dependencies import AppServices, RequestedJob, Services, expired
from service.image_formats import THUMBNAIL, ImageFormat, available_formats, formats_for, negotiate
from service.job_response import retry_after
from service.openapi_responses import NOT_MODIFIED, problem_responses, response_header
from service.problems import ProblemError

router = APIRouter(tags=["jobs"])

_IMMUTABLE = "private, max-age=31536000, immutable"
_HEADERS = {
    "ETag": response_header("Of this form of the image; the PNG's is its sha256, in quotes"),
    "Accept-Ranges": response_header("`bytes`"),
    "Cache-Control": response_header("Immutable: an image never changes"),
    "Vary": response_header("`Accept`"),
}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_CONTENT = dict.fromkeys(("image/png", "image/webp", "image/jpeg", "image/avif"), _FILE)
_PART = {"Content-Range": response_header("Which part of how much")}


@router.get(
    "/jobs/{job_id}/image",
    operation_id="getImage",
    summary="Fetch a job's image",
    response_class=Response,
    responses={
        200: {"description": "The picture", "content": _CONTENT, "headers": _HEADERS},
        206: {"description": "A part of it", "content": _CONTENT, "headers": {**_HEADERS, **_PART}},
        **NOT_MODIFIED,
        **problem_responses(404, 406, 409, 410, 416, 422),
    },
)
async def get_image(view: RequestedJob, services: AppServices, request: Request) -> Response:
    """The PNG, with the settings that painted it in its text chunks; WebP, JPEG or AVIF where `Accept` prefers that to
    PNG by name. `Range`, `If-Range` and `If-None-Match` work on each form.
    """
    result = view.record.result  # a job without one answers 409, whatever is accepted
    offered = formats_for(result["width"], result["height"]) if result else available_formats()
    image_format = negotiate(request.headers.get("accept"), offered)
    if image_format is None:
        known = ", ".join(each.media_type for each in offered)
        raise ProblemError("not-acceptable", f"Accept: one of {known}")
    return await _image_response(view, services, request, image_format, {"Vary": "Accept"})


@router.get(
    "/jobs/{job_id}/thumbnail",
    operation_id="getThumbnail",
    summary="Fetch a small copy of a job's image",
    response_class=Response,
    responses={
        200: {
            "description": "A JPEG, 512 pixels at its longer side",
            "content": {"image/jpeg": _FILE},
            "headers": {name: _HEADERS[name] for name in ("ETag", "Cache-Control")},
        },
        206: {"description": "A part of it", "content": {"image/jpeg": _FILE}, "headers": _PART},
        **NOT_MODIFIED,
        **problem_responses(404, 409, 410, 416, 422),
    },
)
async def get_thumbnail(view: RequestedJob, services: AppServices, request: Request) -> Response:
    """Some ten kB, for lists of many jobs. It is there when the image is."""
    return await _image_response(view, services, request, THUMBNAIL, {})


async def _image_response(
    view: JobView, services: Services, request: Request, image_format: ImageFormat, headers: dict[str, str]
) -> Response:
    result = _committed(view)
    etag = services.images.etag(result, image_format)
    headers = {"ETag": etag, "Cache-Control": _IMMUTABLE, **headers}
    if is_fresh(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    try:
        data = await services.images.get(result, image_format)
    except ImageMissing as error:
        raise expired() from error
    except ImageDamaged as error:
        raise ProblemError("image-damaged") from error
    headers["Content-Disposition"] = f'inline; filename="panorama-{view.record.id}.{image_format.suffix}"'
    return _full_or_partial(request, data, image_format.media_type, headers)


def _committed(view: JobView) -> dict[str, Any]:
    """The job's result, which names the stored image.

    Raises:
        ProblemError: 410 when the image has expired, 409 when the job has none (yet).
    """
    record = view.record
    if record.state == State.EXPIRED:
        raise expired()
    if record.state == State.SUCCEEDED and record.result is not None:
        return record.result
    if not record.state.terminal:
        raise _no_image(f"is {record.state}", retry_after(view))
    raise _no_image("was canceled" if record.state == State.CANCELED else f"has {record.state}")


def _no_image(state: str, headers: dict[str, str] | None = None) -> ProblemError:
    return ProblemError("no-image", headers=headers, title_values={"state": state})


def _full_or_partial(request: Request, data: bytes, media_type: str, headers: dict[str, str]) -> Response:
    headers["Accept-Ranges"] = "bytes"
    try:
        part = byte_range(request.headers.get("range"), request.headers.get("if-range"), headers["ETag"], len(data))
    except BadRange as error:
        size = {"Content-Range": f"bytes */{len(data)}"}
        raise ProblemError("range-outside", headers=size) from error
    if part is None:
        return Response(data, media_type=media_type, headers=headers)
    first, last = part
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], 206, headers, media_type)
