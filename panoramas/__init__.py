"""The Python client and the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from panoramas._version import __version__

if TYPE_CHECKING:
    from panoramas import webhooks
    from panoramas.async_client import AsyncClient
    from panoramas.client import Client
    from panoramas.errors import (
        APIConnectionError,
        AuthenticationError,
        BadRequestError,
        BatchWaitTimeout,
        ConflictError,
        FieldError,
        GoneError,
        InsufficientStorageError,
        InternalServerError,
        InvalidArgumentError,
        JobFailed,
        NotFoundError,
        PanoramasError,
        PayloadTooLargeError,
        PermissionDeniedError,
        RateLimitError,
        ServiceError,
        ServiceUnavailableError,
        UnprocessableEntityError,
        UnsupportedMediaTypeError,
        WaitTimeout,
        WebhookVerificationError,
    )
    from panoramas.params import PanoramaParams, PanoramaRequest, Region
    from panoramas.results import Batch, Event, Job, Picture, Progress, Result, Webhook
    from panoramas.webhooks import WebhookEvent

# Imported on first use, because the server's own processes import this package too and need no client.
_NAMES_IN = {
    "async_client": ("AsyncClient",),
    "client": ("Client",),
    "errors": (
        "APIConnectionError",
        "AuthenticationError",
        "BadRequestError",
        "BatchWaitTimeout",
        "ConflictError",
        "FieldError",
        "GoneError",
        "InsufficientStorageError",
        "InternalServerError",
        "InvalidArgumentError",
        "JobFailed",
        "NotFoundError",
        "PanoramasError",
        "PayloadTooLargeError",
        "PermissionDeniedError",
        "RateLimitError",
        "ServiceError",
        "ServiceUnavailableError",
        "UnprocessableEntityError",
        "UnsupportedMediaTypeError",
        "WaitTimeout",
        "WebhookVerificationError",
    ),
    "params": (
        "PanoramaParams",
        "PanoramaRequest",
        "Region",
    ),
    "results": (
        "Batch",
        "Event",
        "Job",
        "Picture",
        "Progress",
        "Result",
        "Webhook",
    ),
    "webhooks": ("WebhookEvent",),
}
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names}

__all__ = [
    "APIConnectionError",
    "AsyncClient",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchWaitTimeout",
    "Client",
    "ConflictError",
    "Event",
    "FieldError",
    "GoneError",
    "InsufficientStorageError",
    "InternalServerError",
    "InvalidArgumentError",
    "Job",
    "JobFailed",
    "NotFoundError",
    "PanoramaParams",
    "PanoramaRequest",
    "PanoramasError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Picture",
    "Progress",
    "RateLimitError",
    "Region",
    "Result",
    "ServiceError",
    "ServiceUnavailableError",
    "UnprocessableEntityError",
    "UnsupportedMediaTypeError",
    "WaitTimeout",
    "Webhook",
    "WebhookEvent",
    "WebhookVerificationError",
    "__version__",
    "webhooks",
]


def _load(name: str) -> Any:
    if name == "webhooks":
        return importlib.import_module("panoramas.webhooks")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"panoramas.{_MODULE_OF[name]}"), name)


if not TYPE_CHECKING:  # type checkers would take every misspelt name for one that exists
    __getattr__ = _load
