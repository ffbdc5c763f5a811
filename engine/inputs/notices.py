"""Notices: what the user should know about a picture that was painted nevertheless."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """`code` is for programs, `detail` for people."""

    code: str
    detail: str
