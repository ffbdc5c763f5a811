"""Safetensors files with a header alone: their weights are zeros that take no room on the disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def write_header(
    path: Path, shapes: Mapping[str, Sequence[int]], *, dtype: str = "F16", metadata: Mapping[str, str] | None = None
) -> Path:
    """A file with weights of these shapes."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + _BYTES[dtype] * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path
