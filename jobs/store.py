"""Images outside Redis: a local folder by default, any object store by URL.

An image lies under a name of its attempt's own and becomes visible only when the job record names it, which one
compare-and-set does. So a half-written file, a late attempt or a crash in between is never seen by anyone.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url


class StoreError(Exception):
    """The store cannot be reached, is full, or does not hold what it should."""


class ImageMissing(StoreError):
    """There is no image under that name."""


class ImageDamaged(StoreError):
    """The stored bytes are not those that were committed."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What a job's `result` records of its image."""

    key: str
    sha256: str
    bytes: int


class ImageStore:
    """PNGs under `{job}/{token}.png`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._store: ObjectStore
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(self._folder)
        else:
            self._store = from_url(url, client_options={"timeout": timedelta(seconds=30)})

    def put(self, job_id: str, token: int, data: bytes) -> StoredImage:
        """Write durably; invisible until committed.

        Raises:
            StoreError: when it cannot be written (no space, no connection).
        """
        image = StoredImage(f"{job_id}/{token}.png", hashlib.sha256(data).hexdigest(), len(data))
        try:
            obstore.put(self._store, image.key, data)
            self._sync(image.key)
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"the image cannot be stored: {error}") from error
        return image

    async def get(self, key: str, sha256: str) -> bytes:
        """The committed bytes, checked against their digest.

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

    def delete_job(self, job_id: str) -> None:
        """Remove whatever attempts of a job have stored; nothing there is fine.

        Raises:
            StoreError: when the store cannot be reached.
        """
        try:
            keys = [entry["path"] for page in obstore.list(self._store, f"{job_id}/") for entry in page]
            if keys:
                obstore.delete(self._store, keys)
        except FileNotFoundError:
            return
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"the images of {job_id} cannot be deleted: {error}") from error
        if self._folder and (self._folder / job_id).is_dir() and not any((self._folder / job_id).iterdir()):
            (self._folder / job_id).rmdir()

    async def check(self) -> None:
        """Fails where the store is unusable.

        Raises:
            StoreError
        """
        try:
            await obstore.put_async(self._store, "health/probe", b"ok")
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(f"the image store cannot be written: {error}") from error

    def _sync(self, key: str) -> None:
        """Force a local file and its folder onto the disk: a rename alone survives a crash of the process only."""
        if self._folder is None:
            return
        for path in (self._folder / key, (self._folder / key).parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
