"""The state of each line, in an append-only file of JSON lines. Each entry is on the disk before the next step begins.

The order of entries makes a run safe to kill. `sending` records the Idempotency-Key of a chunk of lines before they are
sent: the next run sends the same lines under the same key, and the service creates only the jobs that are missing.
`accepted` follows the service's response, `done` the rename of a picture; `failed` says why a line has no picture.
`withdrawn` cancels a chunk of which nothing was accepted, `retry` cancels a failure.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from panoramas.batch.requests import BatchError, Requests

NAME = "manifest.jsonl"
_VERSION = 1
# The service keeps an Idempotency-Key for 24 hours; one hour allows for clocks that differ.
_REMEMBERED_SECONDS = 23 * 3600


@dataclass(slots=True)
class Chunk:
    """Lines sent together. `batch` is None until they are accepted, and '' if none of them was valid."""

    key: str
    lines: list[int]
    sent_at: float
    batch: str | None = None


@dataclass(slots=True)
class Manifest:
    """The state of a run, kept in a file of its folder. A context manager, which locks the folder.

    Raises:
        BatchError: on entry, when another run uses the folder or it belongs to other requests.
    """

    folder: Path
    requests: Requests
    run: str = ""
    chunks: dict[str, Chunk] = field(default_factory=dict)
    chunk_of: dict[int, Chunk] = field(default_factory=dict)
    done: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    failed: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _sha256: str = ""
    _file: int = -1

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.folder / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
        except BlockingIOError:
            os.close(self._file)
            raise BatchError(f"{self.folder} is in use by another run") from None
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    @property
    def open_lines(self) -> list[int]:
        """Lines that have neither a picture nor a failure."""
        return [line for line in self.requests.items if line not in self.done and line not in self.failed]

    def unsent(self) -> list[int]:
        """Lines that were never sent or have to be sent again."""
        return [line for line in self.open_lines if line not in self.chunk_of]

    def new_chunk(self, lines: list[int]) -> Chunk:
        """Record a key for these lines; from now on they are sent under this key only."""
        key = f"{self.run}-{len(self.chunks)}"
        self.record({"event": "sending", "key": key, "lines": lines, "at": time.time()})
        return self.chunks[key]

    def check_remembered(self, chunk: Chunk) -> None:
        """Raises:
        BatchError: the service may have forgotten the chunk's key; sending it again could paint its lines twice.
        """
        if time.time() - chunk.sent_at > _REMEMBERED_SECONDS:
            raise BatchError(
                f"lines {chunk.lines[0]} to {chunk.lines[-1]} were sent {_REMEMBERED_SECONDS // 3600} hours ago or more"
                " and their response was lost: the service may no longer recognise them. `GET /jobs` lists the"
                " jobs that exist; to submit the lines again all the same, use a new folder"
            )

    def record(self, *entries: Mapping[str, Any]) -> None:
        """Write entries to the disk, then apply them."""
        data = "".join(
            json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n" for entry in entries
        ).encode()
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        for entry in entries:
            self._apply(entry)

    def _load(self) -> None:
        text = (self.folder / NAME).read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):  # the last write was cut off; nothing was based on it yet
            os.ftruncate(self._file, len(whole))
        for entry in _entries(whole, self.folder / NAME):
            self._apply(entry)
        if self._sha256 != self.requests.sha256:
            if self.chunks:
                raise BatchError(
                    f"{self.folder / NAME} belongs to another file of requests, or the file has changed since; nothing"
                    " was submitted. Use a new folder, or restore the old file to resume"
                )
            total, digest = len(self.requests.items), self.requests.sha256
            run = {"event": "run", "version": _VERSION, "run": uuid.uuid4().hex, "sha256": digest, "items": total}
            self.record(run)
        for line, entry in list(self.done.items()):  # a picture that was removed is fetched again
            path = self.folder / entry["file"]
            if not path.is_file() or path.stat().st_size != entry["bytes"]:
                del self.done[line]

    def _apply(self, entry: Mapping[str, Any]) -> None:
        match entry["event"]:
            case "run":
                if entry["version"] != _VERSION:
                    raise BatchError(f"{self.folder / NAME} was written by another version of this command")
                self.run, self._sha256 = entry["run"], entry["sha256"]
            case "sending":
                chunk = Chunk(entry["key"], entry["lines"], entry["at"])
                self.chunks[chunk.key] = chunk
                self.chunk_of.update(dict.fromkeys(chunk.lines, chunk))
            case "accepted":
                self.chunks[entry["key"]].batch = entry["batch"]
            case "withdrawn":
                self.chunks[entry["key"]].batch = ""
                self._free(self.chunks[entry["key"]].lines)
            case "done":
                self.done[entry["line"]] = entry
            case "failed":
                self.failed[entry["line"]] = entry
            case "retry":
                self._free(entry["lines"])

    def _free(self, lines: Iterable[int]) -> None:
        for line in lines:
            self.failed.pop(line, None)
            self.chunk_of.pop(line, None)


def _entries(data: bytes, path: Path) -> list[Mapping[str, Any]]:
    try:
        return [json.loads(line) for line in data.splitlines()]
    except ValueError as error:
        raise BatchError(f"{path} is damaged: {error}") from error
