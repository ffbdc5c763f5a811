"""Reads the bodies of submits: JSON, JSON lines, and a PNG that holds its recipe."""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import IO, Any

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import from_json

from recipe.request import PROVENANCE
from service.png_recipe import read_recipe
from service.problems import FieldProblem, ProblemError, body_problems, invalid_request
from service.schemas.requests import PanoramaRequest

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
PNG = "image/png"

_MAX_IN_MEMORY = 1 << 20


def media_type(request: Request, *accepted: str) -> str:
    """The body's media type, which must be declared.

    A foreign web page can send none of these types without a CORS preflight, so it cannot submit in a user's name.

    Raises:
        ProblemError: 415 for any other type.
    """
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in accepted:
        raise ProblemError("unsupported-media-type", f"Content-Type: {' or '.join(accepted)}")
    return declared


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
        return PanoramaRequest.model_validate_json(data)
    except ValidationError as error:
        raise invalid_request(body_problems(error)) from error


def panorama_from_png(file: IO[bytes]) -> PanoramaRequest:
    """The request that paints a PNG of this service again.

    Raises:
        ProblemError: when the file holds no valid recipe.
    """
    try:
        recipe = from_json(read_recipe(file))
        fields = {name: value for name, value in recipe.items() if name not in PROVENANCE}
        return PanoramaRequest.model_validate(fields)
    except ValidationError as error:
        raise invalid_request(body_problems(error)) from error
    except (ValueError, AttributeError, struct.error) as error:
        detail = "is no PNG with a recipe, such as this service makes"
        raise invalid_request([FieldProblem(pointer="#", detail=detail)]) from error


BatchItem = PanoramaRequest | list[FieldProblem]


def batch_items(file: IO[bytes], body_type: str) -> Iterator[BatchItem]:
    """Each item of a batch in order, or a list of what is wrong with it. JSON lines are read one at a time.

    Raises:
        ProblemError: when the body is no batch at all.
    """
    file.seek(0)
    if body_type == JSON_LINES:
        lines = (line for line in file if line.strip())
        for index, line in enumerate(lines):
            yield _batch_item(index, line)
        return
    for index, value in enumerate(_json_items(file.read())):
        yield _batch_item(index, value)


def _json_items(data: bytes) -> list[Any]:
    try:
        body = from_json(data)
    except ValueError as error:
        raise invalid_request([FieldProblem(pointer="#", detail="the body is not JSON")]) from error
    if not isinstance(body, dict) or not isinstance(body.get("items"), list):
        raise invalid_request([FieldProblem(pointer="#/items", detail="must be a list of panoramas")])
    if unknown := [name for name in body if name != "items"]:
        raise invalid_request([FieldProblem(pointer=f"#/{name}", detail="unknown field") for name in unknown[:20]])
    return body["items"]


def _batch_item(index: int, value: Any) -> BatchItem:
    try:
        if isinstance(value, bytes):
            return PanoramaRequest.model_validate_json(value)
        return PanoramaRequest.model_validate(value)
    except ValidationError as error:
        return problems_of_item(index, body_problems(error))


def problems_of_item(index: int, problems: list[FieldProblem]) -> list[FieldProblem]:
    """Problems of one item with pointers into the batch: `#/width` becomes `#/items/17/width`."""
    return [
        FieldProblem(pointer=f"#/items/{index}{problem.pointer[1:]}", detail=problem.detail, index=index)
        for problem in problems
    ]


def canonical_json(request: PanoramaRequest) -> bytes:
    """The requested fields as JSON. Equal requests give equal bytes, whatever their spacing and order of fields."""
    return json.dumps(request.requested_fields(), sort_keys=True, separators=(",", ":")).encode()
