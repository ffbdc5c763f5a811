"""Other forms of a stored PNG: a thumbnail, WebP, JPEG, AVIF. Pillow comes with the first of them, torch never.

What was made is kept in memory within a limit, because a page shows the same thumbnails again and again; clients keep
what they have for good. At most two are made at a time: small pictures in threads, for Pillow lets go of the
interpreter while it works; large ones, which take seconds and half a gigabyte, in a process that is gone afterwards.
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from typing import Any

from jobs.store import ImageStore

_KEEP_BYTES = 32 << 20
_AT_ONCE = 2
_LARGE_PIXELS = 4 << 20
_PROCESS_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Form:
    """A media type, its file ending, Pillow's name and options, and the longest side where it is bounded."""

    media_type: str
    suffix: str
    pillow: str
    options: tuple[tuple[str, Any], ...] = ()
    longest: int | None = None


PNG = Form("image/png", "png", "PNG")
WEBP = Form("image/webp", "webp", "WEBP", (("quality", 90), ("method", 4)))
JPEG = Form("image/jpeg", "jpg", "JPEG", (("quality", 92), ("subsampling", 0)))
AVIF = Form("image/avif", "avif", "AVIF", (("quality", 80), ("speed", 8), ("max_threads", 1)))
THUMBNAIL = Form("image/jpeg", "thumbnail.jpg", "JPEG", (("quality", 82),), longest=512)


@cache
def forms() -> tuple[Form, ...]:
    """What an image can be had as here, the first preferred where a client does not care."""
    from PIL import features

    return (PNG, WEBP, JPEG, AVIF) if features.check("avif") else (PNG, WEBP, JPEG)


class Pictures:
    """Committed images in the form that a client asked for."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._made: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._turn = asyncio.Semaphore(_AT_ONCE)

    @staticmethod
    def etag(result: dict[str, Any], form: Form) -> str:
        """A strong ETag: another release of the encoder may make other bytes of the same picture."""
        if form is PNG:
            return f'"{result["sha256"]}"'
        from PIL import __version__

        return f'"{result["sha256"]}-{form.suffix}-{__version__}"'

    async def get(self, result: dict[str, Any], form: Form) -> bytes:
        """The bytes of a job's image. The PNG's are checked against their digest.

        Raises:
            ImageMissing, ImageDamaged, StoreError
        """
        if form is PNG:
            return await self._store.get(result["key"], result["sha256"])
        name = self.etag(result, form)
        if name not in self._made:
            async with self._turn:
                if name not in self._made:
                    png = await self._store.get(result["key"], result["sha256"])
                    large = result["width"] * result["height"] > _LARGE_PIXELS
                    made = _in_process(png, form) if large else asyncio.to_thread(convert, png, form)
                    self._keep(name, await made)
        self._made.move_to_end(name)
        return self._made[name]

    def _keep(self, name: str, data: bytes) -> None:
        self._made[name] = data
        self._held += len(data)
        while self._held > _KEEP_BYTES and len(self._made) > 1:
            self._held -= len(self._made.popitem(last=False)[1])


async def _in_process(png: bytes, form: Form) -> bytes:
    """`convert` where its memory is given back and other requests go first."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.pictures", form.suffix, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_PROCESS_SECONDS):
            data, _ = await process.communicate(png)
    except TimeoutError as error:
        raise RuntimeError(f"a {form.media_type} was not made within {_PROCESS_SECONDS} s") from error
    finally:
        if process.returncode is None:  # too slow, or nobody waits any more
            process.kill()
    if process.returncode:
        raise RuntimeError(f"a {form.media_type} could not be made: status {process.returncode}")
    return data


def convert(png: bytes, form: Form) -> bytes:
    """Encode a PNG anew, made smaller where the form says so."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    if form.longest:
        picture.thumbnail((form.longest, form.longest), reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, form.pillow, **dict(form.options))
    return buffer.getvalue()


def preferred(accept: str | None, offered: tuple[Form, ...]) -> Form | None:
    """The form to send (RFC 9110, 12.5.1); None when `Accept` takes none of those offered.

    The PNG is what was painted, with its recipe: a wildcard of any quality asks for it as much as any named type does,
    so that a browser, which names the newest types and then everything else, gets it.
    """
    if accept is None or not accept.strip():
        return offered[0]
    qualities = dict(_entry(part) for part in accept.split(","))
    family, anything = qualities.get("image/*"), qualities.get("*/*")
    wildcard = family if family is not None else anything or 0.0
    best, best_quality = None, 0.0
    for form in offered:
        quality = qualities.get(form.media_type)
        if quality is None:
            quality = 1.0 if form is PNG and wildcard > 0 else wildcard
        if quality > best_quality:
            best, best_quality = form, quality
    return best


def _entry(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_type, min(max(float(value), 0.0), 1.0)
            except ValueError:
                return media_type, 0.0
    return media_type, 1.0


if __name__ == "__main__":
    os.nice(10)
    _form = next(form for form in (*forms(), THUMBNAIL) if form.suffix == sys.argv[1])
    sys.stdout.buffer.write(convert(sys.stdin.buffer.read(), _form))
