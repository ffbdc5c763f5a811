"""Where a command puts a picture: a file, or standard output. Checked before anything is painted."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from panoramas.errors import InvalidArgumentError
from panoramas.files import replacing
from panoramas.formats import format_of, media_type

STANDARD_OUTPUT = "-"


@dataclass(frozen=True, slots=True)
class Output:
    """A checked target. `path` is None for standard output; `format` is one of `panoramas.formats.MEDIA_TYPES`."""

    path: Path | None
    format: str

    @classmethod
    def of(cls, target: str, form: str | None = None) -> Output:
        """From the option `--out` and, if it was given, `--format`.

        Raises:
            InvalidArgumentError: no picture can be written there, or not in that format.
        """
        if form is not None:
            media_type(form)
        if target == STANDARD_OUTPUT:
            if sys.stdout is None:  # the shell's >&-
                raise InvalidArgumentError("--out -: standard output is closed")
            if sys.stdout.isatty():
                raise InvalidArgumentError("--out -: standard output is a terminal; redirect it, or name a file")
            return cls(None, form or "png")
        path = Path(target)
        try:
            _check_writable(path, is_folder=target.endswith(os.sep))
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            reason = getattr(error, "strerror", None) or error
            raise InvalidArgumentError(f"--out: {target} cannot be written: {reason}") from error
        if not path.suffix and (form or _is_special(path)):
            return cls(path, form or "png")
        by_name = format_of(path)
        if form not in (None, by_name):
            raise InvalidArgumentError(f"--out: {target} is the name of a {by_name} picture, but --format is {form}")
        return cls(path, by_name)

    def write(self, data: bytes) -> None:
        """Raises:
        OSError: what was possible before the painting is not any more.
        """
        if self.path is None:
            _write_to_standard_output(data)
        elif _is_special(self.path):
            self.path.write_bytes(data)
        else:
            try:
                with replacing(self.path) as file:
                    file.write(data)
            except PermissionError:  # no file may be added to the folder, but this one may be written
                if not self.path.is_file():
                    raise
                self.path.write_bytes(data)

    def __str__(self) -> str:
        return "standard output" if self.path is None else str(self.path)


def save_elsewhere(data: bytes, name: str) -> Path | None:
    """Save a picture that could not be written where it should be; None if no other folder takes it."""
    folders: tuple[Callable[[], Path], ...] = (Path.cwd, Path.home, lambda: Path(tempfile.gettempdir()))
    for folder in folders:
        with suppress(OSError, RuntimeError):
            path = folder() / name
            if not path.exists():
                with replacing(path) as file:
                    file.write(data)
                return path
    return None


def _check_writable(path: Path, *, is_folder: bool) -> None:
    if is_folder or path.is_dir():
        raise InvalidArgumentError(f"--out: {path} is a folder; name a file in it, such as {path / 'panorama.png'}")
    folder = path.resolve().parent
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InvalidArgumentError(f"--out: {folder} {what}")
    with suppress(FileNotFoundError):  # an error for a name that is too long
        path.lstat()
    if path.exists():
        if not _is_special(path):
            with path.open("r+b"):
                return
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
        return
    trial = folder / f".{uuid.uuid4().hex}.part"
    trial.touch()
    trial.unlink()


def _is_special(path: Path) -> bool:
    """Whether it is a device or a pipe, which is written to and not replaced."""
    return path.exists() and not path.is_file()


def _write_to_standard_output(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        # What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
