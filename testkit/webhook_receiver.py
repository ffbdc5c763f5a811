"""What a webhook calls: a real HTTP server that keeps what it hears and answers as a test wants."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

OUTSIDE = "127.0.0.2"  # a network of its own, which the tests' service may call
INSIDE = "127.0.0.1"


@dataclass
class Call:
    path: str
    headers: dict[str, str]
    body: str

    @property
    def job_id(self) -> str:
        return json.loads(self.body)["data"]["id"]


@dataclass
class Receiver:
    """Listens once entered. `answer` gives status and headers of a path's calls; it may take its time."""

    host: str = OUTSIDE
    port: int = 0
    answer: Callable[[str], tuple[int, dict[str, str]]] = lambda path: (204, {})
    calls: list[Call] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                receiver.calls.append(
                    Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                )
                try:
                    status, more = receiver.answer(self.path)
                    self.send_response(status)
                    for name, value in more.items():
                        self.send_header(name, value)
                    self.end_headers()
                except OSError:
                    pass  # whoever called has given up waiting

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((self.host, self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def heard(self, job_id: str) -> list[Call]:
        return [call for call in self.calls if call.job_id == job_id]

    def paths(self) -> Counter[str]:
        return Counter(call.path for call in self.calls)
