"""The command `panoramas`: the client's commands, and those that run the server's processes."""

from __future__ import annotations

from panoramas.cli import client, generate, server
from panoramas.cli.common import app, quit_with
from panoramas.errors import InvalidArgumentError, PanoramasError

__all__ = ["app", "client", "generate", "main", "server"]


def main() -> None:
    """Entry point. An error that the user can correct is printed as one line on standard error.

    The status is 2 for an argument that cannot be used, else 1; 130 after Ctrl-C.
    """
    try:
        app()
    except InvalidArgumentError as error:
        quit_with(str(error), 2)
    except PanoramasError as error:
        quit_with(str(error))
