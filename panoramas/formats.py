"""The formats of pictures: their media types, and the extensions of file names."""

from __future__ import annotations

from pathlib import Path

from panoramas.errors import InvalidArgumentError

MEDIA_TYPES = {name: f"image/{name}" for name in ("png", "webp", "jpeg", "avif")}
EXTENSIONS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg", ".avif": "avif"}


def media_type(format: str) -> str:
    """Raises:
    InvalidArgumentError: there is no such format.
    """
    if format not in MEDIA_TYPES:
        raise InvalidArgumentError(f"format: one of {', '.join(MEDIA_TYPES)}, not {format!r}")
    return MEDIA_TYPES[format]


def check_extension(path: Path, media_type: str) -> None:
    """Raises:
    InvalidArgumentError: the extension is that of another format than `media_type`.
    """
    form = EXTENSIONS.get(path.suffix.lower())
    if form is not None and MEDIA_TYPES[form] != media_type:
        raise InvalidArgumentError(f"{path}: the picture is {media_type}; ask for it with format={form!r}")


def format_of(path: Path) -> str:
    """The format that a file's extension asks for.

    Raises:
        InvalidArgumentError: it has no extension, or one of no format.
    """
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        names, other = ", ".join(EXTENSIONS), f"in {extension}" if extension else "without an extension"
        raise InvalidArgumentError(f"{path}: a picture's name ends in one of {names}, not {other}")
    return EXTENSIONS[extension]
