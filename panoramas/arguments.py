"""Checks of what a caller passes to the client, made before anything is sent. No message repeats a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import httpx

from panoramas.errors import InvalidArgumentError
from panoramas.results import Batch, Job

# Visible ASCII, and spaces inside: HTTP strips the others from a header's value, or forbids them.
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 3986's unreserved characters. A server or proxy may resolve an id with a slash or of dots alone as a path.
_ID = re.compile(r"(?!\.*$)[\w.~-]{1,200}", re.ASCII)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_api_key(key: str) -> str:
    """The key; "" stands for none.

    Raises:
        InvalidArgumentError: it cannot be the value of a header.
    """
    if key:
        check_value("api_key", key)
    return key


def check_idempotency_key(key: str | None) -> str | None:
    """The key; None stands for a new one.

    Raises:
        InvalidArgumentError: it is empty, too long, or cannot be the value of a header.
    """
    if key is not None:
        check_value("idempotency_key", key)
        if len(key) > 255:
            raise InvalidArgumentError("idempotency_key: at most 255 characters")
    return key


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers; their values may be secrets.

    Raises:
        InvalidArgumentError: a name or a value is not one of HTTP.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidArgumentError(f"headers: {name!r} is not the name of a header")
        check_value(f"the header {name}", value)
    return dict(headers)


def check_value(name: str, value: str) -> str:
    """The value of a header.

    Raises:
        InvalidArgumentError: HTTP cannot carry it; the message says why without repeating it.
    """
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name}: must be a str, not {type(value).__name__}")
    if _HEADER_VALUE.fullmatch(value):
        return value
    if not value:
        raise InvalidArgumentError(f"{name}: is empty")
    if value != value.strip():
        raise InvalidArgumentError(f"{name}: begins or ends with a space or a line break; remove it")
    at = next(index for index, character in enumerate(value) if not " " <= character <= "~")
    raise InvalidArgumentError(f"{name}: character {at + 1} is not visible ASCII")


def check_base_url(text: str, source: str = "base_url") -> str:
    """The address of a service without the slash at its end; it may have a path, behind a proxy.

    Args:
        source: where the address comes from, for the message.

    Raises:
        InvalidArgumentError: it is no address of http or https, or it contains more than host, port and path.
    """
    if "@" in text:  # what precedes it may be a password
        raise InvalidArgumentError(f"{source} must not contain a user name or a password; pass them in headers=")
    try:
        url = httpx.URL(text)
        url.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise InvalidArgumentError(f"{source}: {text!r} is not an address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidArgumentError(f"{source}: {text!r} does not begin with http:// or https:// and a host")
    if url.port is not None and not 0 < url.port < 65536:
        raise InvalidArgumentError(f"{source}: a port is a number from 1 to 65535, not {url.port}")
    if url.query or url.fragment:
        raise InvalidArgumentError(f"{source} must not contain a query or a fragment")
    return str(url).rstrip("/")


def job_path(job: Job | str) -> str:
    """The path of a job.

    Raises:
        InvalidArgumentError: no job has such an id.
    """
    return f"/jobs/{_checked_id('job', job if isinstance(job, str) else job.id)}"


def batch_path(batch: Batch | str) -> str:
    """The path of a batch.

    Raises:
        InvalidArgumentError: no batch has such an id.
    """
    return f"/batches/{_checked_id('batch', batch if isinstance(batch, str) else batch.id)}"


def png_bytes(png: str | os.PathLike[str] | bytes) -> bytes:
    """A PNG from its bytes, or from the file of that name.

    Raises:
        InvalidArgumentError: it is not a PNG.
        OSError: the file cannot be read.
    """
    data = png if isinstance(png, bytes) else Path(png).read_bytes()
    if not data.startswith(_PNG_SIGNATURE):
        raise InvalidArgumentError(f"{'the body' if isinstance(png, bytes) else os.fspath(png)} is not a PNG")
    return data


def _checked_id(what: str, value: str) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidArgumentError(f"{str(value)[:100]!r} is not the id of a {what}")
    return quote(value, safe="")
