"""Runs the application in uvicorn, within the limits of `service.http_protocol`."""

from __future__ import annotations

import resource
from functools import partial

import uvicorn

from jobs.settings import Settings
from service.app import create_app
from service.http_protocol import ConnectionLimits, LimitedProtocol

_OTHER_FILES = 256  # sockets to Redis, files of bodies, pictures that are sent


def serve(settings: Settings, redis_url: str, *, fd: int | None = None) -> None:
    """Serve until SIGTERM. `fd` is a socket that listens already; None: the settings' host and port."""
    limits = ConnectionLimits(connections=min(settings.max_connections, _file_limit() - _OTHER_FILES))
    uvicorn.run(
        create_app(settings, redis_url),
        host=settings.host,
        port=settings.port,
        fd=fd,
        http=partial(LimitedProtocol, limits=limits),  # type: ignore[arg-type]
        ws="none",
        log_level=settings.log_level,
        log_config=None,
        access_log=settings.log_level == "debug",
        timeout_graceful_shutdown=5,
        server_header=False,
    )


def _file_limit() -> int:
    """How many files this process may open, raised as far as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return 1 << 20 if most == resource.RLIM_INFINITY else most
