"""What several schemas share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

ID_PATTERN = "^[0-9a-f]{32}$"


def utc_time(milliseconds: int | None) -> Any:
    """Milliseconds since the epoch as a UTC time."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
