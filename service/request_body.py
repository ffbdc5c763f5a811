"""Reads the bodies of submits: JSON, JSON lines, and a PNG that holds its recipe."""

from __future__ import annotations

import codecs
import contextlib
import json
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from email.message import Message
from typing import IO, Any

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import from_json

from recipe.request import PROVENANCE
from service.json_items import NotJson, TooLong, lines, object_items
from service.png_recipe import read_recipe
from service.problems import (
    MOST_FAULTS_OF_ITEM,
    FieldProblem,
    ProblemError,
    body_problems,
    invalid_fields,
    invalid_request,
    pointer,
)
from service.schemas.requests import PanoramaRequest

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
PNG = "image/png"

_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})
LONG_TEXT = 8 * 1024  # bytes beyond which parsing may take milliseconds, if the text was made for that
_FIELDS = frozenset(PanoramaRequest.model_fields)
_MAX_IN_MEMORY = 64 * 1024


def media_type(request: Request, *accepted: str) -> str:
    """The body's media type, which must be declared.

    A foreign web page can send none of these types without a CORS preflight, so it cannot submit in a user's name.

    Raises:
        ProblemError: 415 for any other type, encoding or character set.
    """
    declared = Message()
    declared["content-type"] = request.headers.get("content-type", "")
    found = declared.get_content_type()
    if found not in accepted:
        raise ProblemError("unsupported-media-type", f"Content-Type: {' or '.join(accepted)}")
    charset = str(declared.get_param("charset", "utf-8")).lower()
    if found != PNG and charset not in _CHARSETS:
        raise ProblemError("unsupported-media-type", f"Content-Type: the charset must be utf-8, not {charset[:100]}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        detail = f"Content-Encoding: send the body as it is, without {encoding[:100]}"
        raise ProblemError("unsupported-media-type", detail, headers={"Accept-Encoding": "identity"})
    return found


@contextlib.asynccontextmanager
async def body_file(request: Request) -> AsyncIterator[IO[bytes]]:
    """The whole body in a temporary file. Processing starts only once the last byte has arrived."""
    with tempfile.SpooledTemporaryFile(max_size=_MAX_IN_MEMORY) as file:
        async for chunk in request.stream():
            file.write(chunk)
        file.seek(0)
        yield file


def panorama_from_json(data: bytes) -> PanoramaRequest:
    """Parse one request.

    Raises:
        ProblemError: names each invalid field.
    """
    try:
        return _validated(data.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        raise invalid_request(body_problems(error)) from error


def _validated(text: bytes) -> PanoramaRequest:
    """The request.

    Raises:
        ValidationError: names each invalid field.
        ProblemError: for many fields that are unknown, which pydantic would take long to list.
    """
    if len(text) > LONG_TEXT:
        with contextlib.suppress(ValueError):
            fields = from_json(text)
            unknown = [name for name in fields if name not in _FIELDS] if isinstance(fields, dict) else []
            if len(unknown) > MOST_FAULTS_OF_ITEM:
                named = unknown[:MOST_FAULTS_OF_ITEM]
                faults = [FieldProblem(pointer=pointer(name), detail="unknown field") for name in named]
                faults.append(FieldProblem(pointer="#", detail=f"and {len(unknown) - len(named)} more faults"))
                raise invalid_request(faults)
    return PanoramaRequest.model_validate_json(text)


def panorama_from_png(file: IO[bytes], beside: Mapping[str, Any]) -> PanoramaRequest:
    """The request that paints a PNG of this service again, with the fields that are no part of a recipe.

    Raises:
        ProblemError: when the file holds no valid recipe.
    """
    try:
        recipe = from_json(read_recipe(file))
        fields = {name: value for name, value in recipe.items() if name not in PROVENANCE}
        return PanoramaRequest.model_validate({**fields, **beside})
    except ValidationError as error:
        raise invalid_request(body_problems(error)) from error
    except (ValueError, AttributeError, struct.error) as error:
        detail = "is no PNG with a recipe, such as this service makes"
        raise invalid_request([FieldProblem(pointer="#", detail=detail)]) from error


BatchItem = PanoramaRequest | list[FieldProblem]


def batch_items(file: IO[bytes], body_type: str, longest: int) -> Iterator[BatchItem]:
    """Each item of a batch in order, or a list of what is wrong with it. One item is in memory at a time.

    Args:
        longest: bytes that an item may have.

    Raises:
        ProblemError: when the body is no batch at all.
    """
    file.seek(0)
    index = 0
    try:
        for item in lines(file, longest) if body_type == JSON_LINES else object_items(file, longest):
            yield _batch_item(index, item)
            index += 1
    except NotJson as error:
        raise _no_batch("#", f"the body is not JSON: {error}") from error
    except TooLong as error:
        raise _no_batch(f"#/items/{index}", str(error)) from error
    except KeyError as error:
        name = error.args[0]
        fault = "must be a list of panoramas" if name == "items" else "unknown field"
        raise _no_batch(pointer(name), fault) from error


def _no_batch(where: str, fault: str) -> ProblemError:
    return invalid_request([FieldProblem(pointer=where, detail=fault)])


def _batch_item(index: int, text: bytes) -> BatchItem:
    try:
        return _validated(text)
    except ValidationError as error:
        return problems_of_item(index, body_problems(error))
    except ProblemError as error:
        return problems_of_item(index, invalid_fields(error))


def problems_of_item(index: int, problems: list[FieldProblem]) -> list[FieldProblem]:
    """Problems of one item with pointers into the batch: `#/width` becomes `#/items/17/width`."""
    return [
        FieldProblem(pointer=f"#/items/{index}{problem.pointer[1:]}", detail=problem.detail, index=index)
        for problem in problems
    ]


def canonical_json(request: PanoramaRequest) -> bytes:
    """The requested fields as JSON. Equal requests give equal bytes, whatever their spacing and order of fields."""
    return json.dumps(request.requested_fields(), sort_keys=True, separators=(",", ":")).encode()
