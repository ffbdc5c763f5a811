"""The header of a `.safetensors` file: names, types and shapes of its tensors, read without torch and without a weight.

The file is eight bytes with the header's length, the header in JSON, and the tensors' bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.errors import ModelError

# The format's own limit. SDXL's header has about 300 kB.
_MAX_HEADER = 100_000_000
_HALF, _SINGLE, _DOUBLE, _BRAIN = "F16", "F32", "F64", "BF16"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file; its bytes begin at `begin` and end before `end`, counted from the file's first byte."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds. `metadata` is text that whoever wrote the file put in."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Of the file at `path`.

    Raises:
        ModelError: when it cannot be read, is no safetensors file, or ends too early.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > size - 8 or length > _MAX_HEADER or file.peek(1)[:1] != b"{":
                raise ModelError(f"{path} is no safetensors file, or only a part of one: download it again")
            entries = json.loads(file.read(length))
        metadata = _metadata(entries)
        tensors = {name: _tensor(entry, 8 + length) for name, entry in entries.items()}
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} has a safetensors header that cannot be read: download it again") from error
    end = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if end != size:
        raise ModelError(f"{path} should have {end} bytes by its header, and has {size}: download it again")
    return Header(path, tensors, metadata)


def _metadata(entries: dict[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in entries.pop("__metadata__", {}).items()}


def _tensor(entry: Mapping[str, Any], offset: int) -> Tensor:
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)) or begin > end:
        raise ValueError("a shape or an offset is no whole number")
    return Tensor(str(entry["dtype"]), shape, offset + begin, offset + end)


def read_numbers(header: Header, name: str) -> list[float] | None:
    """The numbers of a small tensor, or None where its type is none of the usual ones."""
    tensor = header.tensors[name]
    with header.path.open("rb") as file:
        file.seek(tensor.begin)
        data = file.read(tensor.end - tensor.begin)
    if tensor.dtype == _BRAIN:  # the upper half of a float32
        data = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
    letter = {_HALF: "e", _SINGLE: "f", _BRAIN: "f", _DOUBLE: "d"}.get(tensor.dtype)
    return [number for (number,) in struct.iter_unpack(f"<{letter}", data)] if letter else None
