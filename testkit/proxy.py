"""A TCP proxy that cuts connections or lets them hang, to stand for the network between a client and the service."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import httpx

_CHUNK = 65536


class Proxy:
    """Forwards bytes until it is told to cut. `requests` has the method and path of each forwarded request.

    Args:
        target: URL of the service.
    """

    def __init__(self, target: str) -> None:
        url = httpx.URL(target)
        self._target = (url.host, url.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cuts: list[Callable[[bytes], bool]] = []
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._swallowing = False
        self._refusing = False
        self.requests: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_answer(self, *, holding: bytes = b"", times: int = 1) -> None:
        """Drop the next `times` chunks of answers that contain these bytes, and cut their connections."""
        self._cuts += [lambda chunk: holding in chunk] * times

    def cut_all(self) -> None:
        """Cut every open connection now."""
        for pair in list(self._pairs):
            _close(*pair)

    def swallow(self) -> None:
        """From now on accept connections and all that is sent, and answer nothing."""
        self._swallowing = True

    def refuse(self) -> None:
        """From now on close every connection at once, as if nobody listened."""
        self._refusing = True
        self.cut_all()

    def resume(self) -> None:
        """Forward again. Connections that hung until now are cut."""
        self._swallowing = self._refusing = False
        self.cut_all()

    def close(self) -> None:
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refusing:
                    _close(client)
                    continue
                service = socket.create_connection(self._target)
                self._pairs.append((client, service))
                threading.Thread(target=self._requests, args=(client, service), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, service), daemon=True).start()

    def _requests(self, client: socket.socket, service: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(_CHUNK):
                if self._swallowing:
                    continue
                if chunk.split(b" ", 1)[0] in (b"GET", b"POST", b"DELETE"):
                    self.requests.append(chunk.split(b" HTTP/", 1)[0].decode())
                service.sendall(chunk)
        _close(client, service)

    def _answers(self, client: socket.socket, service: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := service.recv(_CHUNK):
                if self._swallowing:
                    continue
                if self._cuts and self._cuts[0](chunk):
                    del self._cuts[0]
                    break
                client.sendall(chunk)
        _close(client, service)


@contextlib.contextmanager
def proxy_to(url: str) -> Iterator[Proxy]:
    """A proxy that is closed afterwards."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
