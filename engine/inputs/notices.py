"""What the user should know of a picture that was painted all the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """`code` is for programs, `detail` for people."""

    code: str
    detail: str
