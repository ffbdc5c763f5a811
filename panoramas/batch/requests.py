"""The file of requests: JSON lines as `POST /panoramas` takes them, or a plain text file of prompts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panoramas.errors import PanoramasError

_STEM = re.compile(r"[\w-][\w .-]{0,199}")


class BatchError(PanoramasError):
    """The batch cannot begin or go on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line: its number from 1, what is sent, and the name of its picture in the folder."""

    line: int
    request: dict[str, Any]
    file: str


@dataclass(frozen=True, slots=True)
class Requests:
    """Every item by its line, and the digest of the file they came from."""

    items: dict[int, Item]
    sha256: str


def read_requests(path: Path) -> Requests:
    """Read and check the whole file.

    Besides a request's own fields a line may have `id` (the picture is `{id}.png`) or `file` (its name). Empty lines
    are skipped. In a file named `.txt` each line is a prompt.

    Raises:
        BatchError: naming the line at fault.
    """
    data = path.read_bytes()
    items: dict[int, Item] = {}
    lines_of: dict[str, int] = {}
    for item in _items(data, plain=path.suffix == ".txt"):
        name = item.file.casefold()  # some file systems know no difference
        if name in lines_of:
            raise BatchError(f"line {item.line}: {item.file} is the picture of line {lines_of[name]} already")
        items[item.line], lines_of[name] = item, item.line
    if not items:
        raise BatchError(f"{path} holds no requests")
    return Requests(items, hashlib.sha256(data).hexdigest())


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
        request = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error} (a file of bare prompts is named .txt)") from error
    if not isinstance(request, dict) or not isinstance(request.get("prompt"), str):
        raise ValueError('must be an object with a "prompt"')
    if "id" in request and "file" in request:
        raise ValueError('has both "id" and "file"')
    named, name = request.pop("id", None), request.pop("file", None)
    file = str(name) if name is not None else f"{line:05d}.png" if named is None else f"{named}.png"
    if not (file.endswith(".png") and _STEM.fullmatch(file.removesuffix(".png"))):
        raise ValueError(f"{file!r} is no name for a picture: letters, digits, spaces, . _ -, and .png at the end")
    return Item(line, request, file)
