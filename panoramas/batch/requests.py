"""The file of requests: JSON lines as `POST /panoramas` takes them, or a plain text file of prompts."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from panoramas.errors import PanoramasError

STANDARD_INPUT = Path("-")
_STEM = re.compile(r"[\w-][\w .-]{0,199}")


class BatchError(PanoramasError):
    """The batch cannot start or continue; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the file: its number, counted from 1, the request, and the name of its picture."""

    line: int
    request: dict[str, Any]
    file: str


@dataclass(frozen=True, slots=True)
class Requests:
    """The items by line number, and the digest of their file."""

    items: dict[int, Item]
    sha256: str


def read_requests(path: Path, *, prompts: bool = False) -> Requests:
    """Read and check the whole file; the path `-` is standard input.

    Besides the fields of a request, a line may have `id` (the picture becomes `{id}.png`) or `file` (its name).
    Empty lines are skipped. With `prompts`, or in a file named `.txt`, each line is a prompt.

    Raises:
        BatchError: naming the line at fault.
    """
    try:
        data = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        raise BatchError(f"{path} cannot be read: {error.strerror or error}") from error
    items: dict[int, Item] = {}
    lines_of: dict[str, int] = {}
    for item in _items(data, plain=prompts or path.suffix == ".txt"):
        name = item.file.casefold()  # some file systems ignore case
        if name in lines_of:
            raise BatchError(f"line {item.line}: {item.file} is already the picture of line {lines_of[name]}")
        items[item.line], lines_of[name] = item, item.line
    if not items:
        raise BatchError(f"{'standard input' if path == STANDARD_INPUT else path} contains no requests")
    return Requests(items, hashlib.sha256(data).hexdigest())


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a value of JSON")


def _items(data: bytes, *, plain: bool) -> Iterator[Item]:
    for line, text in enumerate(data.splitlines(), start=1):
        try:
            if text.strip():
                yield _item(line, text.decode().strip(), plain=plain)
        except ValueError as error:
            raise BatchError(f"line {line}: {error}") from error


def _item(line: int, text: str, *, plain: bool) -> Item:
    if plain:
        return Item(line, {"prompt": text}, f"{line:05d}.png")
    try:
        request = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"is not JSON: {error} (a file of bare prompts is named .txt or read with --prompts)"
        ) from error
    if not isinstance(request, dict) or not isinstance(request.get("prompt"), str):
        raise ValueError('must be an object with a "prompt"')
    if "id" in request and "file" in request:
        raise ValueError('has both "id" and "file"')
    named, name = request.pop("id", None), request.pop("file", None)
    file = str(name) if name is not None else f"{line:05d}.png" if named is None else f"{named}.png"
    if not (file.endswith(".png") and _STEM.fullmatch(file.removesuffix(".png"))):
        raise ValueError(f"{file!r} is not a valid picture name: letters, digits, spaces, . _ - and .png at the end")
    return Item(line, request, file)
