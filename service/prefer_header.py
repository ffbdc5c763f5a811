"""The `Prefer` header (RFC 7240): `wait=N` and `handling=lenient`."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

# A preference is a token with an optional value. Parameters may follow after semicolons; `wait` has none.
_WAIT = re.compile(r'^\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?$', re.IGNORECASE)
_LENIENT = re.compile(r'^\s*handling\s*=\s*"?lenient"?\s*(?:;.*)?$', re.IGNORECASE)


def wait_seconds(prefer: str, most: int) -> int | None:
    """Seconds to wait for the job's end (section 4.3), at most `most`; None without a valid `wait` preference."""
    for preference in prefer.split(","):
        if found := _WAIT.match(preference):
            return min(int(found[1]), most)
    return None


def is_lenient(prefer: str) -> bool:
    """Whether `handling=lenient` (section 4.4) asks to accept the valid items and report the others."""
    return any(_LENIENT.match(preference) for preference in prefer.split(","))


async def _prefer(
    request: Request,
    prefer: Annotated[  # declared as one header: generated clients cannot send several
        str | None,
        Header(
            description="`wait=N` holds the answer until the job has ended, for at most N seconds (RFC 7240)",
            examples=["wait=10"],
        ),
    ] = None,
) -> str:
    return ",".join(request.headers.getlist("prefer"))


Prefer = Annotated[str, Depends(_prefer)]
