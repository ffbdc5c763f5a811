"""A real HTTP server that answers as a test wants, for answers that the service gives rarely or never."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answers:
    """What is answered from now on, and the requests' paths and headers so far."""

    url: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    paths: list[str] = field(default_factory=list)
    received: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def answering() -> Iterator[Answers]:
    """The server, which is stopped afterwards. A client may use it as a proxy too."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            answers.paths.append(self.path)
            answers.received.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(answers.status)
            for name, value in {"Content-Length": str(len(answers.body)), **answers.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answers.body)

        do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's own names

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers = Answers(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
