"""What users hold: the command line and the Python client."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panoramas.async_client import AsyncClient
    from panoramas.client import Client
    from panoramas.errors import FieldError, JobFailed, PanoramasError, ServiceError, WaitTimeout
    from panoramas.results import Batch, Event, Job, PanoramaParams, PanoramaRequest, Picture, Progress, Result

# Imported when they are asked for: the service's own processes come through here too, and need no client.
_HOMES = {
    "async_client": ("AsyncClient",),
    "client": ("Client",),
    "errors": ("FieldError", "JobFailed", "PanoramasError", "ServiceError", "WaitTimeout"),
    "results": ("Batch", "Event", "Job", "PanoramaParams", "PanoramaRequest", "Picture", "Progress", "Result"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

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
    "Result",
    "ServiceError",
    "WaitTimeout",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"panoramas.{_HOME_OF[name]}"), name)
