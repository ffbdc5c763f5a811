"""The picture of a job, in the form that the client takes, and its thumbnail."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from jobs.board import JobView
from jobs.record import State
from jobs.store import ImageDamaged, ImageMissing
from service.conditional import BadRange, byte_range, is_fresh
from service.dependencies import FoundJob, Held, Services, gone
from service.pictures import THUMBNAIL, Form, forms, preferred
from service.problems import ProblemError
from service.responses import NOT_MODIFIED, header, problems
from service.schemas import retry_after

router = APIRouter(tags=["jobs"])

_IMMUTABLE = "private, max-age=31536000, immutable"
_HEADERS = {
    "ETag": header("Of this form of the image; the PNG's is its sha256, in quotes"),
    "Accept-Ranges": header("`bytes`"),
    "Cache-Control": header("Immutable: an image never changes"),
    "Vary": header("`Accept`"),
}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_FORMS = dict.fromkeys(("image/png", "image/webp", "image/jpeg", "image/avif"), _FILE)
_PART = {"Content-Range": header("Which part of how much")}


@router.head("/jobs/{job_id}/image", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/image",
    operation_id="getImage",
    summary="Fetch a job's image",
    response_class=Response,
    responses={
        200: {"description": "The picture", "content": _FORMS, "headers": _HEADERS},
        206: {"description": "A part of it", "content": _FORMS, "headers": {**_HEADERS, **_PART}},
        **NOT_MODIFIED,
        **problems(404, 406, 409, 410, 416, 422),
    },
)
async def get_image(view: FoundJob, services: Held, request: Request) -> Response:
    """The PNG, with the settings that painted it in its text chunks; WebP, JPEG or AVIF where `Accept` prefers that to
    PNG by name. `Range`, `If-Range` and `If-None-Match` work on each form.
    """
    form = preferred(request.headers.get("accept"), forms())
    if form is None:
        known = ", ".join(form.media_type for form in forms())
        raise ProblemError(406, "not-acceptable", "The image cannot be had in that form", f"Accept: one of {known}")
    return await _picture(view, services, request, form, {"Vary": "Accept"})


@router.head("/jobs/{job_id}/thumbnail", include_in_schema=False)
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
        **problems(404, 409, 410, 416, 422),
    },
)
async def get_thumbnail(view: FoundJob, services: Held, request: Request) -> Response:
    """Some ten kB, for lists of many jobs. It is there when the image is."""
    return await _picture(view, services, request, THUMBNAIL, {})


async def _picture(
    view: JobView, services: Services, request: Request, form: Form, headers: dict[str, str]
) -> Response:
    result = _committed(view)
    etag = services.pictures.etag(result, form)
    headers = {"ETag": etag, "Cache-Control": _IMMUTABLE, **headers}
    if is_fresh(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    try:
        data = await services.pictures.get(result, form)
    except ImageMissing as error:
        raise gone() from error
    except ImageDamaged as error:
        raise ProblemError(500, "image-damaged", "The stored image does not match its digest") from error
    headers["Content-Disposition"] = f'inline; filename="panorama-{view.record.id}.{form.suffix}"'
    return _whole_or_part(request, data, form.media_type, headers)


def _committed(view: JobView) -> dict[str, Any]:
    """What the record says of the image.

    Raises:
        ProblemError: where there is none, yet or any more.
    """
    record = view.record
    if record.state == State.EXPIRED:
        raise gone()
    if record.state == State.SUCCEEDED and record.result is not None:
        return record.result
    again = {} if record.state.terminal else retry_after(view)
    title = f"The job has no image: it {'is' if not record.state.terminal else 'has'} {record.state}"
    if record.state == State.CANCELED:
        title = "The job has no image: it was canceled"
    raise ProblemError(409, "no-image", title, headers=again)


def _whole_or_part(request: Request, data: bytes, media_type: str, headers: dict[str, str]) -> Response:
    headers["Accept-Ranges"] = "bytes"
    asked = request.headers.get("range") if request.method == "GET" else None  # RFC 9110, 14.2: GET alone
    try:
        part = byte_range(asked, request.headers.get("if-range"), headers["ETag"], len(data))
    except BadRange as error:
        size = {"Content-Range": f"bytes */{len(data)}"}
        raise ProblemError(416, "range-outside", "The range lies outside the image", headers=size) from error
    if part is None:
        return Response(data, media_type=media_type, headers=headers)
    first, last = part
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], 206, headers, media_type)
