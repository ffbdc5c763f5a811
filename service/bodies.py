"""Bodies of submits: JSON, JSON lines, and a PNG that says how it was painted. Large ones lie in a file."""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import IO, Any

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import from_json

from service.problems import FieldProblem, ProblemError, field_problems, invalid
from service.schemas import PanoramaRequest

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
PNG = "image/png"

_IN_MEMORY = 1 << 20
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST_RECIPE = 256 * 1024


def media_type(request: Request, *known: str) -> str:
    """The body's type. It must be told: what a foreign web page can post without asking has none of these types.

    Raises:
        ProblemError: 415 for any but those `known`.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in known:
        detail = f"Content-Type: {' or '.join(known)}"
        raise ProblemError(415, "unsupported-media-type", "A body of this type is not understood", detail)
    return given


@contextlib.asynccontextmanager
async def spooled(request: Request) -> AsyncIterator[IO[bytes]]:
    """The whole body in a file that is gone afterwards; nothing is begun before the last byte has arrived."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        async for chunk in request.stream():
            file.write(chunk)
        file.seek(0)
        yield file


def panorama_of_json(data: bytes) -> PanoramaRequest:
    """One request.

    Raises:
        ProblemError: naming each field at fault.
    """
    try:
        return PanoramaRequest.model_validate_json(data)
    except ValidationError as error:
        raise invalid(field_problems(error)) from error


def panorama_of_recipe(file: IO[bytes]) -> PanoramaRequest:
    """The request that paints a PNG of this service again. Only its text is read, never its pixels.

    Raises:
        ProblemError: when it is no such PNG.
    """
    try:
        recipe = from_json(_recipe(file))
        asked = {name: value for name, value in recipe.items() if name != "model_revision"}
        return PanoramaRequest.model_validate(asked)
    except ValidationError as error:
        raise invalid(field_problems(error)) from error
    except (ValueError, AttributeError, struct.error) as error:
        detail = "is no PNG with a recipe, such as this service makes"
        raise invalid([FieldProblem(pointer="#", detail=detail)]) from error


def _recipe(file: IO[bytes]) -> bytes:
    """The text of the chunk `recipe` (PNG specification, 11.3.3.4: iTXt).

    Raises:
        ValueError, struct.error: when there is none.
    """
    if file.read(8) != _SIGNATURE:
        raise ValueError("no PNG")
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"iTXt" and length <= _LONGEST_RECIPE:
            body, checksum = file.read(length), file.read(4)
            keyword, _, rest = body.partition(b"\0")
            if keyword == b"recipe" and checksum == struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))):
                packed, _, text = rest[0:1], *rest[2:].split(b"\0", 1)
                text = text.partition(b"\0")[2]
                return zlib.decompressobj().decompress(text, _LONGEST_RECIPE) if packed == b"\1" else text
        else:
            file.seek(length + 4, 1)


Item = PanoramaRequest | list[FieldProblem]


def batch_items(file: IO[bytes], kind: str) -> Iterator[Item]:
    """Each item of a batch in turn, or what is wrong with it. JSON lines are read one at a time.

    Raises:
        ProblemError: when it is no batch at all.
    """
    file.seek(0)
    if kind == JSON_LINES:
        lines = (line for line in file if line.strip())
        for index, line in enumerate(lines):
            yield _item(index, line)
        return
    for index, value in enumerate(_listed(file.read())):
        yield _item(index, value)


def _listed(data: bytes) -> list[Any]:
    try:
        body = from_json(data)
    except ValueError as error:
        raise invalid([FieldProblem(pointer="#", detail="the body is not JSON")]) from error
    if not isinstance(body, dict) or not isinstance(body.get("items"), list):
        raise invalid([FieldProblem(pointer="#/items", detail="must be a list of panoramas")])
    if unknown := [name for name in body if name != "items"]:
        raise invalid([FieldProblem(pointer=f"#/{name}", detail="unknown field") for name in unknown[:20]])
    return body["items"]


def _item(index: int, value: Any) -> Item:
    try:
        if isinstance(value, bytes):
            return PanoramaRequest.model_validate_json(value)
        return PanoramaRequest.model_validate(value)
    except ValidationError as error:
        return of_item(index, field_problems(error))


def of_item(index: int, faults: list[FieldProblem]) -> list[FieldProblem]:
    """Faults of one item as faults of the batch: `#/width` becomes `#/items/17/width`."""
    return [
        FieldProblem(pointer=f"#/items/{index}{fault.pointer[1:]}", detail=fault.detail, index=index)
        for fault in faults
    ]


def canonical(request: PanoramaRequest) -> bytes:
    """What was asked for, the same bytes however it was written down."""
    return json.dumps(request.asked_for(), sort_keys=True, separators=(",", ":")).encode()
