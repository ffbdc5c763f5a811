"""Each process of the service as `panoramas` runs it: settings are read and checked, logs set up, then it starts."""

from __future__ import annotations

import signal
from typing import Any

import typer
from pydantic import ValidationError

from jobs import logs, tracing
from jobs.server import UnsupportedServer, check_server
from jobs.settings import Settings
from panoramas.cli.common import quit_with


def run_up(**overrides: Any) -> None:
    """Run every process on this machine until SIGINT or SIGTERM."""
    from panoramas.server.local import LocalService, LocalServiceError

    service = LocalService(checked_store(_checked_exposure(read_settings(**overrides))))
    _set_up_logs(service.settings)
    signal.signal(signal.SIGINT, service.interrupt)
    signal.signal(signal.SIGTERM, service.interrupt)
    try:
        with service:
            typer.echo(f"Panoramas are served at {service.url} (documentation: {service.url}/docs). Ctrl-C stops it.")
            service.run()
            typer.echo("Stopping after the running job. Ctrl-C again puts it back into the queue instead.")
    except LocalServiceError as error:
        quit_with(str(error))


def run_api(*, fd: int | None = None, **overrides: Any) -> None:
    """Run the API. `fd` is a listening socket that the parent process bound; the parent checked the exposure too."""
    from service.server import serve

    settings = read_settings(**overrides)
    if fd is None:
        _checked_exposure(settings)
    checked_store(settings)
    _set_up_logs(settings, "api")
    serve(settings, _redis_url(settings), fd=fd)


def run_worker() -> int:
    """Run a worker; returns its exit status."""
    settings = checked_store(read_settings())
    _set_up_logs(settings, "worker")
    from worker.main import run_worker

    return run_worker(settings, _redis_url(settings))


def check_worker() -> int:
    """0 if a worker of this host is alive, else 1."""
    from worker.main import is_alive

    return 0 if is_alive(_redis_url(read_settings())) else 1


def check_webhooks() -> int:
    """0 if a process of this host has looked for due calls lately, else 1."""
    from service.webhooks.sender import is_alive

    return 0 if is_alive() else 1


def run_webhooks() -> None:
    """Call webhooks until SIGTERM."""
    settings = read_settings()
    if not settings.webhook_secrets:
        quit_with(
            "PANORAMAS_WEBHOOK_SECRET is not set: whsec_ and base64 of random bytes, the same on every API process"
        )
    _set_up_logs(settings, "webhooks")
    from service.webhooks.sender import send

    send(settings, _redis_url(settings))


def read_settings(**overrides: Any) -> Settings:
    """The settings of the environment; flags that were given override them. Quits with 2 and each variable at fault."""
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
        settings.catalog  # noqa: B018 - an unreadable list of models is reported here, not by a process later
    except ValidationError as error:
        quit_with("\n".join(f"PANORAMAS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()), 2)
    except ValueError as error:
        quit_with(str(error), 2)
    return settings


def checked_store(settings: Settings) -> Settings:
    """Quit when the image store cannot be opened as the settings say. Nothing is sent to it yet."""
    from jobs.signed_urls import SignedUrls
    from jobs.store import ImageStore

    try:
        ImageStore.of(settings)
        SignedUrls.of(settings)
    except ValueError as error:
        quit_with(f"the image store: {error}")
    return settings


def _checked_exposure(settings: Settings) -> Settings:
    """Quit when the API would listen beyond this machine without API keys."""
    try:
        settings.check_exposure()
    except ValueError as error:
        quit_with(str(error))
    return settings


def _redis_url(settings: Settings) -> str:
    if settings.redis_url is None:
        quit_with("PANORAMAS_REDIS_URL is not set; `panoramas up` starts an embedded server instead")
    try:
        check_server(settings.redis_url)
    except UnsupportedServer as error:
        quit_with(str(error))
    return settings.redis_url


def _set_up_logs(settings: Settings, role: str = "") -> None:
    logs.setup(settings.log_level, settings.log_format)
    if role:
        tracing.setup(role)
