"""The server's version, as installed. `panoramas/_version.py` is the one place where it is written."""

from __future__ import annotations

import importlib.metadata
from functools import cache


@cache
def server_version() -> str:
    """Of the distribution; "unknown" in a source tree that was never installed."""
    try:
        return importlib.metadata.version("multidiffusion-service")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
