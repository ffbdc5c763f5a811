"""The images of a batch as a ZIP archive, which is written while it is sent: one image is in memory at a time.

Images are stored uncompressed, because PNG is compressed already. The last file, `manifest.jsonl`, says which image
belongs to which item.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from jobs.record import JobRecord
from jobs.store import ImageDamaged, ImageMissing, ImageStore


class _ChunkBuffer:
    """The file that ZipFile writes to. It cannot seek, so ZipFile writes each image's size after the image."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._chunks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """ZipFile calls it; there is nothing to do."""

    def close(self) -> None:
        """ZipFile calls it; there is nothing to do."""

    def take(self) -> bytes:
        """What was written since the last call."""
        data, self._chunks = b"".join(self._chunks), []
        return data


async def stream_archive(records: AsyncIterable[JobRecord], store: ImageStore) -> AsyncIterator[bytes]:
    """Yield the archive, one image at a time. The manifest reports images that are missing or damaged.

    Raises:
        StoreError: when the store fails. The archive then breaks off and cannot be opened.
    """
    buffer, manifest = _ChunkBuffer(), []
    with ZipFile(buffer, "w", ZIP_STORED) as archive:
        async for record in records:
            assert record.result is not None
            name = f"{record.batch_index or 0:05d}-{record.id}.png"
            line = {"index": record.batch_index, "id": record.id, "file": name, "sha256": record.result["sha256"]}
            try:
                png = await store.get(record.result["key"], record.result["sha256"])
            except (ImageMissing, ImageDamaged) as error:
                line |= {"file": None, "error": "missing" if isinstance(error, ImageMissing) else "damaged"}
            else:
                archive.writestr(_entry(name, record.finished_at), png)
            manifest.append(json.dumps(line))
            yield buffer.take()
        archive.writestr(_entry("manifest.jsonl", None), "".join(f"{line}\n" for line in manifest))
    yield buffer.take()


def _entry(name: str, milliseconds: int | None) -> ZipInfo:
    moment = datetime.fromtimestamp((milliseconds or 0) / 1000, UTC) if milliseconds else datetime.now(UTC)
    return ZipInfo(name, moment.timetuple()[:6])
