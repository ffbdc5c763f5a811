"""The picture of a job."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from jobs.record import State
from jobs.store import ImageDamaged, ImageMissing
from service.conditional import BadRange, byte_range, is_fresh
from service.dependencies import FoundJob, Held, gone
from service.problems import ProblemError
from service.responses import NOT_MODIFIED, binary, header, problems
from service.schemas import retry_after

router = APIRouter(tags=["jobs"])

_HEADERS = {
    "ETag": header("The image's sha256, in quotes"),
    "Accept-Ranges": header("`bytes`"),
    "Cache-Control": header("Immutable: an image never changes"),
}


@router.head("/jobs/{job_id}/image", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/image",
    operation_id="getImage",
    summary="Fetch a job's image",
    response_class=Response,
    responses={
        200: binary("image/png", "The picture", **_HEADERS),
        206: binary("image/png", "A part of it", **_HEADERS, **{"Content-Range": header("Which part of how much")}),
        **NOT_MODIFIED,
        **problems(401, 404, 409, 410, 416, 422, 500, 503),
    },
)
async def get_image(view: FoundJob, services: Held, request: Request) -> Response:
    """The PNG, with the settings that painted it in its text chunks. `Range`, `If-Range` and `If-None-Match` work."""
    record = view.record
    if record.state == State.EXPIRED:
        raise gone()
    if record.state != State.SUCCEEDED or record.result is None:
        again = {} if record.state.terminal else retry_after(view)
        title = f"The job has no image: it {'is' if not record.state.terminal else 'has'} {record.state}"
        if record.state == State.CANCELED:
            title = "The job has no image: it was canceled"
        raise ProblemError(409, "no-image", title, headers=again)
    etag = f'"{record.result["sha256"]}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=31536000, immutable", "Accept-Ranges": "bytes"}
    if is_fresh(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    try:
        png = await services.store.get(record.result["key"], record.result["sha256"])
    except ImageMissing as error:
        raise gone() from error
    except ImageDamaged as error:
        raise ProblemError(500, "image-damaged", "The stored image does not match its digest") from error
    headers["Content-Disposition"] = f'inline; filename="panorama-{record.id}.png"'
    return _whole_or_part(request, png, "image/png", headers)


def _whole_or_part(request: Request, data: bytes, media_type: str, headers: dict[str, str]) -> Response:
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
