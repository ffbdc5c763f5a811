"""The URLs that this process gives its clients: paths, or absolute ones where `PANORAMAS_PUBLIC_URL` is set."""

from __future__ import annotations

_base = ""


def set_base(public_url: str | None) -> None:
    """Where this service is found from outside, without a slash at the end. Set once, when the process starts."""
    global _base  # noqa: PLW0603 - a process serves one address
    _base = public_url or ""


def link(path: str) -> str:
    """The URL of a path of the API, such as `/jobs/8a0f...`."""
    return _base + path
