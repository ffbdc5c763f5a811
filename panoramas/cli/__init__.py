"""The command `panoramas`: the client's commands, and those that run the server's processes."""

from __future__ import annotations

import io
import sys

from panoramas.cli import client, generate, server
from panoramas.cli.common import app, quit_with
from panoramas.errors import InvalidArgumentError, JobFailed, PanoramasError

__all__ = ["app", "client", "generate", "main", "server"]


def main() -> None:
    """Entry point. An error that the user can correct is printed as one line on standard error.

    The status is 2 for an argument that cannot be used, else 1; 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a prompt may have letters that the terminal does not
        sys.stdout.reconfigure(errors="replace")
    try:
        app()
    except InvalidArgumentError as error:
        quit_with(str(error), 2)
    except JobFailed as error:
        quit_with(f"job {error.job.id}: {error}")
    except PanoramasError as error:
        quit_with(str(error))
