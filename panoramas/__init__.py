"""The Python client and the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from panoramas._version import __version__

if TYPE_CHECKING:
    from panoramas.async_client import AsyncClient
    from panoramas.client import Client
    from panoramas.errors import FieldError, JobFailed, PanoramasError, ServiceError, WaitTimeout
    from panoramas.params import PanoramaParams, PanoramaRequest, Region
    from panoramas.results import Batch, Event, Job, Picture, Progress, Result

# Imported on first use, because the server's own processes import this package too and need no client.
_NAMES_IN = {
    "async_client": ("AsyncClient",),
    "client": ("Client",),
    "errors": ("FieldError", "JobFailed", "PanoramasError", "ServiceError", "WaitTimeout"),
    "params": ("PanoramaParams", "PanoramaRequest", "Region"),
    "results": ("Batch", "Event", "Job", "Picture", "Progress", "Result"),
}
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names}

__all__ = [
    "AsyncClient",
    "Batch",
    "Client",
    "Event",
    "FieldError",
    "Job",
    "JobFailed",
    "PanoramaParams",
    "PanoramaRequest",
    "PanoramasError",
    "Picture",
    "Progress",
    "Region",
    "Result",
    "ServiceError",
    "WaitTimeout",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"panoramas.{_MODULE_OF[name]}"), name)
