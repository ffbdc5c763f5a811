"""What schemathesis cannot know: how JSON lines are written."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def json_lines(_context: Any, value: Any) -> Any:
    """A list is lines; anything else is sent as it is, for the service to refuse."""
    if isinstance(value, bytes | str):
        return value if isinstance(value, bytes) else value.encode()
    return b"\n".join(json.dumps(line).encode() for line in (value if isinstance(value, list) else [value]))
