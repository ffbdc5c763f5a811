"""Reads the recipe that the service writes into its PNGs."""

from __future__ import annotations

import struct
import zlib
from typing import IO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_BYTES = 1 << 20  # as many regions as there may be, with the longest prompts in escaped JSON
_MAX_CHUNKS = 10_000  # a picture of 8192 x 2048 in chunks of libpng's default size has 6,200


def read_recipe(file: IO[bytes]) -> bytes:
    """The text of the `recipe` chunk (PNG specification, 11.3.3.4: iTXt). Pixels are skipped, never decoded.

    Raises:
        ValueError, struct.error: when the file is no PNG or has no such chunk.
    """
    if file.read(8) != _SIGNATURE:
        raise ValueError("no PNG")
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"iTXt" and length <= _MAX_BYTES:
            body, checksum = file.read(length), file.read(4)
            keyword, _, rest = body.partition(b"\0")
            if keyword == b"recipe" and checksum == struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))):
                return _text(rest)
        else:
            file.seek(length + 4, 1)
    raise ValueError("too many chunks")


def _text(chunk: bytes) -> bytes:
    """The text of an iTXt chunk behind its keyword: compression flag and method, language, translated keyword, text."""
    _language, keyword_and_text = chunk[2:].split(b"\0", 1)
    text = keyword_and_text.partition(b"\0")[2]
    return zlib.decompressobj().decompress(text, _MAX_BYTES) if chunk[0:1] == b"\1" else text
