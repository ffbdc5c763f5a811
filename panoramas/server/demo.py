"""`panoramas demo`: the whole service in a temporary folder, for one panorama."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from panoramas.cli.common import console, quit_with
from panoramas.cli.output import Output
from panoramas.cli.painting import submit_and_save
from panoramas.client import Client
from panoramas.errors import PanoramasError
from panoramas.server.local import LocalService, LocalServiceError
from panoramas.server.roles import read_settings


def run_demo(prompt: str, out: str, params: dict[str, Any]) -> None:
    """Start the service, paint one panorama into `out`, stop the service. On an error its log is printed."""
    output = Output.of(out)
    with tempfile.TemporaryDirectory(prefix="panoramas-") as folder:
        log_file = Path(folder) / "log"
        os.environ["PANORAMAS_API_KEYS"] = ""  # this process is the only client
        settings = read_settings(host="127.0.0.1", port=0, data_dir=Path(folder) / "data")
        service = LocalService(settings, log_file, webhooks=False)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM, like Ctrl-C, runs every `finally`
        try:
            with console.status("starting the service"):
                service.start()
            try:
                with Client(service.url, api_key="") as client:
                    submit_and_save(client, lambda: client.submit(prompt, **params), output)
            finally:
                with console.status("stopping the service"):
                    service.stop()
        except (PanoramasError, LocalServiceError) as error:
            logged = log_file.read_text(errors="replace")[-4000:] if log_file.exists() else ""
            quit_with(f"{logged}\n{error}")
