"""Painted pictures on this machine's disk, while the image store cannot be written.

Each is one file: a line of JSON, then the PNG. Workers that share a data folder share these; whoever claims a picture's
job delivers it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.object_store import make_private

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Picture:
    """A painted picture as a PNG, and what its job's record is to say about it. Sizes are in pixels."""

    png: bytes
    width: int
    height: int
    timings: dict[str, float]
    notices: list[dict[str, Any]]
    revision: str


class KeptPictures:
    """The kept pictures in a folder, by the ids of their jobs. Thread-safe.

    Args:
        most_bytes: of all pictures together; beyond it none is kept.
        longest: seconds after which a picture is deleted, because its job must have expired.
        on_count: called with the number of pictures whenever that may have changed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        longest: float,
        most_bytes: int = _MOST_BYTES,
        on_count: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._on_count = on_count
        self._longest = longest
        self._most_bytes = most_bytes

    @property
    def ids(self) -> list[str]:
        """The ids of the jobs with a kept picture, the oldest first. What is too old is deleted, also what a crash left
        half-written."""
        found = []
        for path in self._folder.glob("*"):
            try:
                written = path.stat().st_mtime
            except OSError:  # another worker has delivered it
                continue
            if time.time() - written > self._longest:
                log.warning("%s is deleted: it is too old", path)
                path.unlink(missing_ok=True)
            elif path.suffix == ".kept":
                found.append((written, path.stem))
        self._on_count(len(found))
        return [job_id for _, job_id in sorted(found)]

    def keep(self, job_id: str, picture: Picture) -> bool:
        """Write a picture to the disk. False when that is not possible; the log says why, and it is painted again."""
        facts = asdict(picture)
        facts["sha256"] = hashlib.sha256(facts.pop("png")).hexdigest()
        try:
            make_private(self._folder)
            used = sum(path.stat().st_size for path in self._folder.iterdir())
            if used + len(picture.png) > self._most_bytes:
                log.error("job %s: its picture is not kept: %d MiB are kept already", job_id, used >> 20)
                return False
            self._write(job_id, json.dumps(facts).encode() + b"\n" + picture.png)
        except OSError as error:
            log.error("job %s: its picture cannot be kept: %s", job_id, error)
            return False
        self._count()
        return True

    def load(self, job_id: str) -> Picture | None:
        """The kept picture of a job; None when it is gone, or was damaged and is now deleted."""
        try:
            head, _, png = self._path(job_id).read_bytes().partition(b"\n")
            facts = json.loads(head)
            if facts.pop("sha256") != hashlib.sha256(png).hexdigest():
                raise ValueError("it does not match its sha256")
            return Picture(png=png, **facts)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("job %s: its kept picture cannot be read and is deleted: %s", job_id, error)
            self.drop(job_id)
            return None

    def drop(self, job_id: str) -> None:
        """Delete the kept picture of a job, if there is one."""
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as error:
            log.error("job %s: its kept picture cannot be deleted: %s", job_id, error)
        self._count()

    def _count(self) -> None:
        self._on_count(sum(1 for _ in self._folder.glob("*.kept")))

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.kept"

    def _write(self, job_id: str, data: bytes) -> None:
        """Write a file that a crash leaves whole or not at all."""
        temporary = self._folder / f"{job_id}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path(job_id))
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
