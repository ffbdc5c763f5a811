"""What the worker and its model process say to each other: JSON over a pipe.

Behind `done` follow the pixels, height x width x 3 bytes; behind `preview` a small encoded picture.

To the model process: `paint` (one job), `stop` (end the running job at the next step). EOF means: exit.
From it: `ready`, then for a job `phase`, `step`, `preview` ... and one of `done`, `interrupted`, `failed`; `loaded` for
each model that it has loaded.
"""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any


def send(connection: Connection, kind: str, **fields: Any) -> None:
    """Write one message.

    Raises:
        OSError: when the other side is gone.
    """
    connection.send_bytes(json.dumps({"kind": kind, **fields}).encode())


def receive(connection: Connection) -> dict[str, Any]:
    """Read one message, waiting for it; the bytes behind a `done` or a `preview` are its `image`.

    Raises:
        EOFError, OSError: when the other side is gone.
    """
    message: dict[str, Any] = json.loads(connection.recv_bytes())
    if message["kind"] in ("done", "preview"):
        message["image"] = connection.recv_bytes()
    return message
