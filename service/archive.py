"""The pictures of a batch as a ZIP that is written while it is sent: one picture is in memory at a time.

The pictures are stored as they are, for PNG is compressed already. The last file, `manifest.jsonl`, says which
is which.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from jobs.record import JobRecord
from jobs.store import ImageDamaged, ImageMissing, ImageStore


class _Outbox:
    """What ZipFile writes to: it cannot seek, so that sizes go behind each picture."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing to flush to."""

    def close(self) -> None:
        """Nor to close."""

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


async def zipped(records: AsyncIterable[JobRecord], store: ImageStore) -> AsyncIterator[bytes]:
    """The archive, a picture at a time. One that is gone or damaged is told in the manifest instead.

    Raises:
        StoreError: when the store fails; the archive then ends where it is, and cannot be opened.
    """
    outbox, manifest = _Outbox(), []
    with ZipFile(outbox, "w", ZIP_STORED) as archive:
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
            yield outbox.take()
        archive.writestr(_entry("manifest.jsonl", None), "".join(f"{line}\n" for line in manifest))
    yield outbox.take()


def _entry(name: str, milliseconds: int | None) -> ZipInfo:
    moment = datetime.fromtimestamp((milliseconds or 0) / 1000, UTC) if milliseconds else datetime.now(UTC)
    return ZipInfo(name, moment.timetuple()[:6])
