"""`Prefer: wait=N` (RFC 7240, section 4.3): hold the answer until the job has ended, for at most N seconds."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

# A preference is a token with an optional value, and parameters behind semicolons that `wait` has none of.
_WAIT = re.compile(r'^\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?$', re.IGNORECASE)
_LENIENT = re.compile(r'^\s*handling\s*=\s*"?lenient"?\s*(?:;.*)?$', re.IGNORECASE)


def wait_seconds(prefer: str, most: int) -> int | None:
    """Seconds to wait, within `most`; None where nothing (that can be understood) is preferred."""
    for preference in prefer.split(","):
        if found := _WAIT.match(preference):
            return min(int(found[1]), most)
    return None


def is_lenient(prefer: str) -> bool:
    """`handling=lenient` (RFC 7240, section 4.4): do what can be done, and tell what cannot."""
    return any(_LENIENT.match(preference) for preference in prefer.split(","))


async def _prefer(
    request: Request,
    prefer: Annotated[  # described as one header, which is all that generated clients can send
        str | None,
        Header(
            description="`wait=N` holds the answer until the job has ended, for at most N seconds (RFC 7240)",
            examples=["wait=10"],
        ),
    ] = None,
) -> str:
    return ",".join(request.headers.getlist("prefer"))


Prefer = Annotated[str, Depends(_prefer)]
