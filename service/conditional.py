"""Conditional and partial requests (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import hashlib
import re

_TAG = re.compile(r'(?:W/)?("[^"]*")')
_RANGE = re.compile(r"^\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*$", re.IGNORECASE)


class BadRange(Exception):
    """The range holds no byte of the representation (RFC 9110, 15.5.17)."""


def weak_etag(body: bytes) -> str:
    """A weak ETag: equal tags mean equal content, not necessarily equal bytes."""
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_fresh(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this version already, by the weak comparison of RFC 9110, 8.8.3.2."""
    if not if_none_match:
        return False
    return if_none_match.strip() == "*" or etag.removeprefix("W/") in _TAG.findall(if_none_match)


def byte_range(range_header: str | None, if_range: str | None, etag: str, size: int) -> tuple[int, int] | None:
    """First and last byte to send, or None to send everything.

    None when there is no Range header, when it asks for several ranges or cannot be parsed, and when `If-Range` names
    another version. A server may ignore any Range (RFC 9110, 14.2); several would need a multipart response.

    Raises:
        BadRange: when the range lies outside the representation.
    """
    found = _RANGE.match(range_header) if range_header else None
    if found is None or not (found[1] or found[2]):
        return None
    if if_range and if_range.strip() != etag:  # strong comparison: a date or a weak tag never matches
        return None
    if not found[1]:
        length = int(found[2])
        first, last = max(size - length, 0), size - 1
        if length == 0:
            raise BadRange
    else:
        first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
        if found[2] and int(found[2]) < first and first < size:
            return None  # an invalid range (14.1.1) is ignored
    if first >= size:
        raise BadRange
    return first, last
