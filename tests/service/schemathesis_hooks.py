"""Teaches schemathesis to serialise JSON lines."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def json_lines(_context: Any, value: Any) -> Any:
    """One line for each item of a list. Anything else is sent as it is, and the service must refuse it."""
    if isinstance(value, bytes | str):
        return value if isinstance(value, bytes) else value.encode()
    return b"\n".join(json.dumps(line).encode() for line in (value if isinstance(value, list) else [value]))
