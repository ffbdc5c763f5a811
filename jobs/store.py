"""The image store: a local folder by default, or any object store given by its URL.

Each attempt stores its image under its own name. The image becomes visible only when the job's record refers to it, in
one atomic step. So nobody ever sees a half-written file, or the image of a late or crashed attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

import obstore

from jobs.object_store import Connection, first_line, folder_of, make_private, open_store
from jobs.time_limit import TimeLimit, TookTooLong

if TYPE_CHECKING:
    from obstore import ObjectMeta

    from jobs.settings import Settings

T = TypeVar("T")

_IMAGE = re.compile(r"([0-9a-f]{32})/(\d+(?:-[0-9a-f]{32})?)\.png")  # earlier versions had the number only

# What stores answer that cannot create an object only if there is none: a bucket without conditional writes, a file
# system without hard links (EPERM, ENOSYS, EOPNOTSUPP).
_NO_CREATE = re.compile(r"NotImplemented|NotSupported|os error (?:1|38|95)\)")

_PROBE = "health/probe"
_NOT_WRITABLE = "the image store cannot be written"


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
    """PNGs under `{job}/{token}.png`. With less than `min_free_bytes` free on a local disk, no new job is accepted.

    No call lasts longer than `connection.seconds`. In a local folder only this user can read the pictures.

    Raises:
        ValueError: when the store cannot be opened; the message says what is missing.
    """

    def __init__(self, url: str, *, min_free_bytes: int = 0, connection: Connection | None = None) -> None:
        connection = connection or Connection()
        self._min_free_bytes = min_free_bytes
        self._folder = folder_of(url)
        self._store = open_store(url, connection)
        self._limit = TimeLimit(connection.seconds)
        self._free, self._measured_at = 0, -math.inf  # bytes on a local disk, and when they were measured

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The store that the settings describe. Raises ValueError."""
        return cls(settings.image_url, min_free_bytes=settings.min_free_mb << 20, connection=Connection.of(settings))

    def put(self, job_id: str, token: str, data: bytes) -> StoredImage:
        """Write an image durably. It stays invisible until it is committed. Nothing is ever overwritten.

        Raises:
            StoreError: when it cannot be written (no space, no connection).
        """
        image = StoredImage(f"{job_id}/{token}.png", hashlib.sha256(data).hexdigest(), len(data))
        self._call("the image cannot be stored", self._put, image, data)
        return image

    def _put(self, image: StoredImage, data: bytes) -> None:
        self._make_private_parent(image.key)
        self._create(image, data)
        self._sync(image.key)

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
        async with self._reading(key):
            data = bytes(await (await obstore.get_async(self._store, key)).bytes_async())
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageDamaged(f"{key} does not match its sha256")
        return data

    async def get_part(self, key: str, first: int, last: int) -> bytes:
        """Read the bytes `first` to `last` of an image, and only these: they cannot be checked against its digest.

        Raises:
            ImageMissing, ImageDamaged, StoreError
        """
        async with self._reading(key):
            data = bytes(await obstore.get_range_async(self._store, key, start=first, end=last + 1))
        if len(data) != last + 1 - first:
            raise ImageDamaged(f"{key} is shorter than it was")
        return data

    async def check_size(self, key: str, size: int) -> None:
        """Check that an image exists with this number of bytes, without reading it.

        Raises:
            ImageMissing, ImageDamaged, StoreError
        """
        async with self._reading(key):
            found = (await obstore.head_async(self._store, key))["size"]
        if found != size:
            raise ImageDamaged(f"{key} has {found} bytes and not {size}")

    def delete(self, key: str) -> None:
        """Delete one image, if it exists.

        Raises:
            StoreError: when the store cannot be reached.
        """
        self._call(f"{key} cannot be deleted", self._delete, key)

    def _delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, key)
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
        if self._folder:  # also temporary files of crashed attempts
            self._call(f"{job_id} cannot be deleted", shutil.rmtree, self._folder / job_id, True)

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

    async def check_room(self) -> None:
        """Check that a local disk has room for another image, as of a second ago. Object stores are not checked.

        Raises:
            StoreFull, StoreError
        """
        if self._folder is None or not self._min_free_bytes:
            return
        if time.monotonic() - self._measured_at > 1.0:
            # In a thread: a mounted folder whose server does not answer would block the event loop.
            with self._failing("the image store cannot be read"):
                self._free = (await self._limit.run_async(shutil.disk_usage, self._folder)).free
            self._measured_at = time.monotonic()
        if self._free < self._min_free_bytes:
            raise StoreFull(f"{self._free >> 20} MiB are left on the disk of the image store")

    async def check(self) -> None:
        """Check that the store can be written.

        Raises:
            StoreError
        """
        with self._failing(_NOT_WRITABLE):
            await self._limit.run_async(self._write, _PROBE, b"ok")

    def probe(self, size: int = 2) -> None:
        """As `check`, synchronous, with an object of `size` bytes: a full disk may have room for a small one.

        Raises:
            StoreError
        """
        self._call(_NOT_WRITABLE, self._write, _PROBE, bytes(size))

    def read_or_create(self, key: str, data: bytes) -> bytes:
        """The object with this key; `data` becomes it if there is none.

        Raises:
            StoreError
        """

        def read_or_create() -> bytes:
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError:
                self._make_private_parent(key)
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except obstore.exceptions.AlreadyExistsError:
                pass
            except obstore.exceptions.BaseError as error:
                if not _NO_CREATE.search(str(error)):
                    raise
                self._write(key, data)
            return bytes(obstore.get(self._store, key).bytes())

        return self._call("the image store cannot be used", read_or_create)

    def _write(self, key: str, data: bytes) -> None:
        self._make_private_parent(key)
        obstore.put(self._store, key, data, use_multipart=False)

    def _call(self, what: str, call: Callable[..., T], *arguments: Any) -> T:
        """A blocking call within the time limit.

        Raises:
            StoreError
        """
        with self._failing(what):
            return self._limit.run(call, *arguments)

    @staticmethod
    @contextlib.contextmanager
    def _failing(what: str) -> Iterator[None]:
        try:
            yield
        except (obstore.exceptions.BaseError, OSError, TookTooLong) as error:
            raise StoreError(f"{what}: {first_line(error)}") from error

    @contextlib.asynccontextmanager
    async def _reading(self, key: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limit.seconds):
                yield
        except FileNotFoundError as error:
            raise ImageMissing(key) from error
        except TimeoutError as error:
            raise StoreError(f"the image cannot be read: no answer within {self._limit.seconds:g} s") from error
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"the image cannot be read: {first_line(error)}") from error

    def _pages(self, prefix: str | None) -> Iterator[Sequence[ObjectMeta]]:
        what = "the image store cannot be listed"
        pages = self._call(what, lambda: obstore.list(self._store, prefix, chunk_size=500))
        while page := self._call(what, self._next_page, pages):
            yield page

    @staticmethod
    def _next_page(pages: Iterator[Sequence[ObjectMeta]]) -> Sequence[ObjectMeta] | None:
        try:
            return next(pages, None)
        except FileNotFoundError:  # deleted meanwhile
            return None

    def _make_private_parent(self, key: str) -> None:
        """In a local folder: make the folder of a key. obstore would make it readable for other users."""
        if self._folder:
            make_private(self._folder)
            make_private((self._folder / key).parent)

    def _sync(self, key: str) -> None:
        """Flush a local file and its folders to disk: a rename alone survives a crash, but not a power cut."""
        if self._folder is None:
            return
        (self._folder / key).chmod(0o600)
        for path in (self._folder / key, (self._folder / key).parent, self._folder):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
