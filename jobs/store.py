"""The image store: a local folder by default, or any object store given by its URL.

Each attempt stores its image under its own name. The image becomes visible only when the job's record refers to it, in
one atomic step. So nobody ever sees a half-written file, or the image of a late or crashed attempt.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url

if TYPE_CHECKING:
    from obstore import ObjectMeta

    from jobs.settings import Settings


_IMAGE = re.compile(r"([0-9a-f]{32})/(\d+(?:-[0-9a-f]{32})?)\.png")  # earlier versions had the number only

# What stores answer that cannot create an object only if there is none: a bucket without conditional writes, a file
# system without hard links (EPERM, ENOSYS, EOPNOTSUPP).
_NO_CREATE = re.compile(r"NotImplemented|NotSupported|os error (?:1|38|95)\)")


class StoreError(Exception):
    """The store cannot be reached, is full, or does not have the expected image."""


class StoreFull(StoreError):
    """There is too little space left for the images of further jobs."""


class ImageMissing(StoreError):
    """There is no image with this key."""


class ImageDamaged(StoreError):
    """The stored bytes differ from those that were committed."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What a job's `result` says about its image."""

    key: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image that one attempt stored, and its age in seconds."""

    key: str
    job_id: str
    token: str
    age: float


class ImageStore:
    """PNGs under `{job}/{token}.png`. With less than `min_free_bytes` free on a local disk, no new job is accepted."""

    def __init__(self, url: str, *, min_free_bytes: int = 0) -> None:
        self._min_free_bytes = min_free_bytes
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._store: ObjectStore
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(self._folder)
        else:
            self._store = from_url(url, client_options={"timeout": timedelta(seconds=30)})

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The store that the settings describe."""
        return cls(settings.image_url, min_free_bytes=settings.min_free_mb << 20)

    def put(self, job_id: str, token: str, data: bytes) -> StoredImage:
        """Write an image durably. It stays invisible until it is committed. Nothing is ever overwritten.

        Raises:
            StoreError: when it cannot be written (no space, no connection).
        """
        image = StoredImage(f"{job_id}/{token}.png", hashlib.sha256(data).hexdigest(), len(data))
        try:
            self._create(image, data)
            self._sync(image.key)
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"the image cannot be stored: {error}") from error
        return image

    def _create(self, image: StoredImage, data: bytes) -> None:
        """Write an image under a key that does not exist yet: `If-None-Match: *` in S3, a hard link in a folder.

        The key may exist because the answer to an earlier try was lost; then its bytes are these.
        """
        try:
            obstore.put(self._store, image.key, data, mode="create", use_multipart=False)
        except obstore.exceptions.AlreadyExistsError:
            stored = bytes(obstore.get(self._store, image.key).bytes())
            if hashlib.sha256(stored).hexdigest() != image.sha256:
                raise StoreError(f"{image.key} exists with other bytes") from None
        except obstore.exceptions.BaseError as error:
            if not _NO_CREATE.search(str(error)):
                raise
            obstore.put(self._store, image.key, data)  # the token in the key is in no other attempt's key

    async def get(self, key: str, sha256: str) -> bytes:
        """Read an image and check it against its digest.

        Raises:
            ImageMissing, ImageDamaged, StoreError
        """
        try:
            data = bytes(await (await obstore.get_async(self._store, key)).bytes_async())
        except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
            raise ImageMissing(key) from error
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"the image cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageDamaged(f"{key} does not match its sha256")
        return data

    def delete(self, key: str) -> None:
        """Delete one image, if it exists.

        Raises:
            StoreError: when the store cannot be reached.
        """
        try:
            obstore.delete(self._store, key)
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            pass
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"{key} cannot be deleted: {error}") from error
        if self._folder:
            with contextlib.suppress(OSError):  # the folder has images of other attempts, or is already deleted
                (self._folder / key).parent.rmdir()

    def delete_job(self, job_id: str) -> None:
        """Delete everything that the attempts of a job have stored.

        Raises:
            StoreError: when the store cannot be reached.
        """
        for page in self._pages(f"{job_id}/"):
            for entry in page:
                self.delete(entry["path"])
        if self._folder:
            shutil.rmtree(self._folder / job_id, ignore_errors=True)  # also temporary files of crashed attempts

    def older_than(self, seconds: float) -> Iterator[list[ImageFile]]:
        """All stored images that are at least `seconds` old, a page at a time.

        Raises:
            StoreError: when the store cannot be reached.
        """
        now = datetime.now(UTC)
        for page in self._pages(None):
            images = [
                ImageFile(entry["path"], named[1], named[2], (now - entry["last_modified"]).total_seconds())
                for entry in page
                if (named := _IMAGE.fullmatch(entry["path"]))
            ]
            yield [image for image in images if image.age >= seconds]

    def remove_temporaries(self, seconds: float) -> None:
        """Delete half-written files that a crash left in a local folder. Object stores never list such files.

        The local store writes `{name}#{n}` and renames it once it is complete.
        """
        if self._folder is None:
            return
        for path in self._folder.glob("*/*.png#*"):
            with contextlib.suppress(OSError):  # another worker may delete it at the same time
                if time.time() - path.stat().st_mtime >= seconds:
                    path.unlink()
                    path.parent.rmdir()

    def check_room(self) -> None:
        """Check that a local disk has room for another image. Object stores are not checked.

        Raises:
            StoreFull, StoreError
        """
        if self._folder is None or not self._min_free_bytes:
            return
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise StoreError(f"the image store cannot be read: {error}") from error
        if free < self._min_free_bytes:
            raise StoreFull(f"{free >> 20} MiB are left on the disk of the image store")

    async def check(self) -> None:
        """Check that the store can be written.

        Raises:
            StoreError
        """
        try:
            await obstore.put_async(self._store, "health/probe", b"ok")
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"the image store cannot be written: {error}") from error

    def _pages(self, prefix: str | None) -> Iterator[Sequence[ObjectMeta]]:
        try:
            yield from obstore.list(self._store, prefix, chunk_size=500)
        except FileNotFoundError:
            return
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"the image store cannot be listed: {error}") from error

    def _sync(self, key: str) -> None:
        """Flush a local file and its folders to disk: a rename alone survives a crash, but not a power cut."""
        if self._folder is None:
            return
        for path in (self._folder / key, (self._folder / key).parent, self._folder):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
