"""A job's image in the format that the client accepts, and its thumbnail."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from jobs.board import JobView
from jobs.record import State
from jobs.store import ImageDamaged, ImageMissing
from service.conditional import BadRange, byte_range, is_fresh
from service.dependencies import AppServices, RequestedJob, Services, expired
from service.head import is_head
from service.image_formats import PNG, THUMBNAIL, ImageFormat, available_formats, formats_for, negotiate
from service.job_response import retry_after
from service.openapi_responses import NOT_MODIFIED, problem_responses, response_header
from service.problems import ProblemError
from service.redirects import may_redirect, same_host

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
        307: {
            "description": "The PNG is at `Location` for some minutes, on servers that redirect to their store",
            "headers": {"Location": response_header("Signed; sends no API key of yours there")},
        },
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
    headers["Accept-Ranges"] = "bytes"
    headers["Content-Disposition"] = f'inline; filename="panorama-{view.record.id}.{image_format.suffix}"'
    try:
        if image_format is PNG:
            return await _png_response(services, request, result, headers)
        data = await services.images.get(result, image_format)
    except ImageMissing as error:
        raise expired() from error
    except ImageDamaged as error:
        raise ProblemError("image-damaged") from error
    part = _requested_part(request, etag, len(data))
    return _response(part, data if part is None else data[part[0] : part[1] + 1], len(data), image_format, headers)


async def _png_response(
    services: Services, request: Request, result: dict[str, Any], headers: dict[str, str]
) -> Response:
    """The stored PNG: by a redirect, or as much of it as was asked for. A part is read alone, and not checked against
    the digest of the whole."""
    key, size = result["key"], result["bytes"]
    part = _requested_part(request, headers["ETag"], size)
    if services.signed_urls and may_redirect(request, headers["ETag"]):
        address = await services.signed_urls.sign(key)
        if address and not same_host(request, address):
            return Response(status_code=307, headers={"Location": address, "Cache-Control": "no-store", "Vary": "*"})
    if is_head(request):
        await services.store.check_size(key, size)
        return Response(headers={**headers, "Content-Length": str(size)}, media_type=PNG.media_type)
    if part is None:
        return _response(None, await services.store.get(key, result["sha256"]), size, PNG, headers)
    return _response(part, await services.store.get_part(key, *part), size, PNG, headers)


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


def _requested_part(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """First and last byte to send; None for all of them.

    Raises:
        ProblemError: 416 when the range lies outside.
    """
    try:
        return byte_range(request.headers.get("range"), request.headers.get("if-range"), etag, size)
    except BadRange as error:
        raise ProblemError("range-outside", headers={"Content-Range": f"bytes */{size}"}) from error


def _response(
    part: tuple[int, int] | None, data: bytes, size: int, image_format: ImageFormat, headers: dict[str, str]
) -> Response:
    """`data` as the whole, or as this part of `size` bytes."""
    if part is None:
        return Response(data, media_type=image_format.media_type, headers=headers)
    first, last = part
    return Response(data, 206, {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}, image_format.media_type)
