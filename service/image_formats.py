"""Converts a stored PNG into other formats: a thumbnail, WebP, JPEG, AVIF. Pillow is imported on first use.

Converted images are cached in memory up to a limit, because pages request the same thumbnails again and again. At most
two conversions run at a time. Small images are converted in a thread, since Pillow releases the GIL; large ones, which
take seconds and half a gigabyte, in a child process, so that their memory is returned to the system.
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
from service.accept import weights

_CACHE_BYTES = 32 << 20
_MAX_CONVERSIONS = 2
_LARGE_PIXELS = 4 << 20
_PROCESS_SECONDS = 120


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A media type with its file suffix, Pillow's name and options.

    Pictures are scaled down to `max_side`. The format itself holds no side longer than `longest`.
    """

    media_type: str
    suffix: str
    pillow: str
    options: tuple[tuple[str, Any], ...] = ()
    max_side: int | None = None
    longest: int | None = None


PNG = ImageFormat("image/png", "png", "PNG")
WEBP = ImageFormat("image/webp", "webp", "WEBP", (("quality", 90), ("method", 4)), longest=16_383)
JPEG = ImageFormat("image/jpeg", "jpg", "JPEG", (("quality", 92), ("subsampling", 0)), longest=65_535)
AVIF = ImageFormat(
    "image/avif",
    "avif",
    "AVIF",
    (("quality", 80), ("speed", 8), ("max_threads", 1), ("subsampling", "4:4:4")),
    longest=65_535,
)
THUMBNAIL = ImageFormat("image/jpeg", "thumbnail.jpg", "JPEG", (("quality", 82),), max_side=512)


@cache
def available_formats() -> tuple[ImageFormat, ...]:
    """Formats that this server can produce. The first is sent when a client has no preference."""
    from PIL import features

    return (PNG, WEBP, JPEG, AVIF) if features.check("avif") else (PNG, WEBP, JPEG)


def formats_for(width: int, height: int) -> tuple[ImageFormat, ...]:
    """Those of the available formats that hold a picture of this size."""
    side = max(width, height)
    return tuple(each for each in available_formats() if each.longest is None or side <= each.longest)


class ImageConverter:
    """Reads committed images in the format that a client asked for."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._slots = asyncio.Semaphore(_MAX_CONVERSIONS)

    @staticmethod
    def etag(result: dict[str, Any], image_format: ImageFormat) -> str:
        """A strong ETag. It holds Pillow's version, because another release may encode the same image differently."""
        if image_format is PNG:
            return f'"{result["sha256"]}"'
        from PIL import __version__

        return f'"{result["sha256"]}-{image_format.suffix}-{__version__}"'

    async def get(self, result: dict[str, Any], image_format: ImageFormat) -> bytes:
        """The bytes of a job's image. The stored PNG is checked against its digest.

        Raises:
            ImageMissing, ImageDamaged, StoreError: when the PNG cannot be read.
        """
        if image_format is PNG:
            return await self._store.get(result["key"], result["sha256"])
        name = self.etag(result, image_format)
        if name not in self._cache:
            async with self._slots:
                if name not in self._cache:
                    png = await self._store.get(result["key"], result["sha256"])
                    large = result["width"] * result["height"] > _LARGE_PIXELS
                    converted = (
                        _convert_in_process(png, image_format)
                        if large
                        else asyncio.to_thread(convert, png, image_format)
                    )
                    self._keep(name, await converted)
        self._cache.move_to_end(name)
        return self._cache[name]

    def _keep(self, name: str, data: bytes) -> None:
        self._cache[name] = data
        self._cached_bytes += len(data)
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])


async def _convert_in_process(png: bytes, image_format: ImageFormat) -> bytes:
    """Run `convert` in a child process, which has a lower priority than the API."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.image_formats",
        image_format.suffix,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PROCESS_SECONDS):
            data, _ = await process.communicate(png)
    except TimeoutError as error:
        raise RuntimeError(f"converting to {image_format.media_type} took over {_PROCESS_SECONDS} s") from error
    finally:
        if process.returncode is None:  # too slow, or the request was canceled
            process.kill()
    if process.returncode:
        raise RuntimeError(f"converting to {image_format.media_type} failed: status {process.returncode}")
    return data


def convert(png: bytes, image_format: ImageFormat) -> bytes:
    """Encode a PNG in another format, scaled down if the format has a maximum side."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as opened:
        picture, xmp = opened.convert("RGB"), opened.info.get("xmp")  # by which viewers know a panorama
    if image_format.max_side:
        picture.thumbnail((image_format.max_side, image_format.max_side), reducing_gap=2.0)
    buffer = io.BytesIO()
    options = dict(image_format.options)
    if xmp and not image_format.max_side:
        options["xmp"] = xmp
        if image_format is WEBP:  # whose lossy form halves the colours, and shows that where the edges of a ring meet
            options["lossless"] = True
    picture.save(buffer, image_format.pillow, **options)
    return buffer.getvalue()


def negotiate(accept: str | None, offered: tuple[ImageFormat, ...]) -> ImageFormat | None:
    """The format to send (RFC 9110, 12.5.1); None when `Accept` accepts none of those offered.

    A wildcard of any quality counts as quality 1 for the PNG, which is the original and holds the recipe. Browsers
    name the newest types and add a wildcard, so they get the PNG.
    """
    if accept is None or not accept.strip():
        return offered[0]
    qualities = weights(accept)
    family, anything = qualities.get("image/*"), qualities.get("*/*")
    wildcard = family if family is not None else anything or 0.0
    best, best_quality = None, 0.0
    for image_format in offered:
        quality = qualities.get(image_format.media_type)
        if quality is None:
            quality = 1.0 if image_format is PNG and wildcard > 0 else wildcard
        if quality > best_quality:
            best, best_quality = image_format, quality
    return best


if __name__ == "__main__":
    os.nice(10)
    _chosen = next(known for known in (*available_formats(), THUMBNAIL) if known.suffix == sys.argv[1])
    sys.stdout.buffer.write(convert(sys.stdin.buffer.read(), _chosen))
