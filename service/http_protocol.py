"""HTTP/1.1 with bounds that uvicorn's own protocol lacks: on headers, on time, and on connections.

Everything here happens before a request reaches the application, so that nobody needs a key to be refused. What is
bounded, and by what answer, stands in `ConnectionLimits`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.problems import MEDIA_TYPE, ProblemError

_SWEEP_SECONDS = 0.5
# Bytes that are parsed at a time. A packet may hold thousands of requests; those behind the first wait unparsed.
_SLICE = 1024
# Requests that are begun between two looks at the sockets. More at once would all delay each other, and those who come.
_STARTS = 8
_LINGERING = 64  # refused connections that are still being told why; beyond these a new one is dropped without a word


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Sizes in bytes, times in seconds.

    A head is the request line and all headers: larger ones are answered 431 (RFC 6585, section 5), slower ones 408.
    A body must bring `body_bytes_per_second` on average after its first `body_idle` seconds and never pause for longer
    than that; otherwise 408. A client that reads nothing of its answer for `write_idle` is dropped. A new connection
    beyond `connections` takes the place of the one that has sent no complete request for longest; when there is none,
    it is answered 503.
    """

    head_bytes: int = 32 * 1024
    head_seconds: float = 10.0
    body_idle: float = 15.0
    body_bytes_per_second: int = 8 * 1024
    write_idle: float = 60.0
    linger: float = 2.0
    connections: int = 2000


@dataclass(slots=True, eq=False)
class _Server:
    """What the connections of one server share. `idle` is in order of how long they have sent no complete request."""

    idle: dict[LimitedProtocol, None] = field(default_factory=dict)
    lingering: int = 0
    ready: deque[tuple[LimitedProtocol, RequestResponseCycle, Any]] = field(default_factory=deque)
    sweep: asyncio.TimerHandle | None = None


_servers: WeakKeyDictionary[Any, _Server] = WeakKeyDictionary()  # by uvicorn's ServerState


class LimitedProtocol(HttpToolsProtocol):
    """One connection. A single timer of the server watches the times of all, so that a request pays for none."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._server = _servers.setdefault(self.server_state, _Server())
        self._waiting = b""  # what follows requests that are not answered yet
        self._unparsed = 0  # bytes since the parser last came to the end of a head or to a part of a body
        self._head_since: float | None = None
        self._body_since: float | None = None
        self._body_bytes = 0
        self._last_bytes = 0.0
        self._stalled_since: float | None = None
        self._refused_at: float | None = None

    # The transport's calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._server.sweep is None:
            self._server.sweep = self.loop.call_later(_SWEEP_SECONDS, _sweep, self.server_state, self._server)
        self._head_since = self.loop.time()
        if len(self.connections) > self._limits.connections and not self._make_room():
            if self._server.lingering >= _LINGERING:
                transport.abort()
            else:
                self._refuse("too-many-connections", "Try again in a few seconds.", {"Retry-After": "5"})
            return
        self._server.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.idle.pop(self, None)
        if self._refused_at is not None:
            self._server.lingering -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused_at is not None:
            return  # the client is still sending; if it were cut off, it would not see why
        self._last_bytes = self.loop.time()
        self._unset_keepalive_if_required()
        if self._waiting:
            self._waiting += data
            self.flow.pause_reading()
        else:
            self._parse_in_slices(data)

    def pause_writing(self) -> None:
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()

    # The parser's calls

    def on_message_begin(self) -> None:
        self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._refused_at is not None:
            return
        self._unparsed, self._head_since = 0, None
        self._server.idle.pop(self, None)
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._limits.head_bytes:
            self._refuse_head()
            return
        if self.parser.should_upgrade():
            return  # `_parse` comes back without it
        self._body_since, self._body_bytes = self.loop.time(), 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._refused_at is None:
            self._unparsed = 0
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused_at is None and not self.parser.should_upgrade():
            self._unparsed, self._body_since = 0, None
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._waiting and not self.pipeline:
            waiting, self._waiting = self._waiting, b""
            self._parse_in_slices(waiting)
        if self._waiting:
            self.flow.pause_reading()
        elif not self.pipeline and self.cycle.response_complete and not self.transport.is_closing():
            self._server.idle[self] = None

    def _parse_in_slices(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            if self.pipeline:
                self._waiting = data[start:]
                return
            if self._refused_at is not None or self.transport.is_closing():
                return
            piece = data[start : start + _SLICE]
            self._unparsed += len(piece)
            self._parse(piece)
            if self._unparsed > self._limits.head_bytes + _SLICE:  # also trailers, and extensions of chunks
                self._refuse_head()

    def _parse(self, data: bytes) -> None:
        """Feed the parser. Instead of uvicorn's own, which loses the body of a request that asks for an upgrade.

        Java's client asks for HTTP/2 that way with each first request. A server may ignore it (RFC 9110, 7.8).
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            (parsed,) = upgrade.args
            if self.parser.get_method() == b"CONNECT":
                self._refuse("method-not-allowed", "This is no proxy.")
            elif self._refused_at is None:
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self._parse(head + data[parsed:])
        except httptools.HttpParserError:
            self._refuse("not-http", "The request cannot be parsed.")

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept = ((name, value) for name, value in self.headers if name not in {b"connection", b"upgrade"})
        lines = (b"%s: %s\r\n" % header for header in kept)
        return b"".join((b"%s %s HTTP/%s\r\n" % (method, self.url, version), *lines, b"\r\n"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not self._server.ready:
            self.loop.call_soon(_start_some, self._server)
        self._server.ready.append((self, cycle, app))

    def start(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Run the application."""
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    # Bounds

    def check_times(self, now: float) -> None:
        """Refuse or drop the connection when it is too slow."""
        limits = self._limits
        if self._refused_at is not None:
            if now - self._refused_at > limits.linger:
                self.transport.abort()
        elif self._stalled_since is not None and now - self._stalled_since > limits.write_idle:
            self.transport.abort()
        elif self.flow.read_paused:  # it is the server that is slow
            self._head_since = now if self._head_since is not None else None
            self._body_since = now if self._body_since is not None else None
            self._last_bytes = now
        elif self._head_since is not None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._head_since = now  # the request before it is still being answered
            elif now - self._head_since > limits.head_seconds:
                self._refuse("request-timeout", f"The headers did not arrive within {limits.head_seconds:g} s.")
        elif self._body_since is not None:
            grace = limits.body_idle + self._body_bytes / limits.body_bytes_per_second
            if now - self._last_bytes > limits.body_idle or now - self._body_since > grace:
                self._refuse("request-timeout", "The body arrived too slowly. Nothing was accepted.")

    def _make_room(self) -> bool:
        """Close the connection that has sent no complete request for longest; False when there is none."""
        oldest = next(iter(self._server.idle), None)
        if oldest is None:
            return False
        del self._server.idle[oldest]
        oldest.transport.abort()
        oldest.connections.discard(oldest)  # now, since `connection_lost` follows only later
        return True

    def _refuse_head(self) -> None:
        self._refuse("headers-too-large", f"The request line and headers may have {self._limits.head_bytes} bytes.")

    def _refuse(self, kind: str, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer with a problem, unless another answer has begun, and close once the client has had time to read it."""
        if self._refused_at is not None or self.transport.is_closing():
            return
        self._refused_at = self.loop.time()
        self._server.lingering += 1
        self._server.idle.pop(self, None)
        begun = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not begun:
            self.transport.write(_answer(ProblemError(kind, detail, headers=headers)))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the handler, if it waits for the body, waits no longer
            self.cycle.message_event.set()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _answer(error: ProblemError) -> bytes:
    body = error.problem.model_dump_json(exclude_none=True).encode()
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close", **error.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return b"".join((STATUS_LINE[error.problem.status], lines.encode(), b"\r\n", body))


def _start_some(server: _Server) -> None:
    """Begin the requests that have waited longest; the others in the next turn of the loop."""
    for _ in range(min(_STARTS, len(server.ready))):
        connection, cycle, app = server.ready.popleft()
        connection.start(cycle, app)
    if server.ready:
        asyncio.get_running_loop().call_soon(_start_some, server)


def _sweep(state: Any, server: _Server) -> None:
    """Check the times of every connection of a server; goes on for as long as there are any."""
    server.sweep = None
    if not state.connections:
        return
    loop = asyncio.get_running_loop()
    now = loop.time()
    for connection in tuple(state.connections):
        if isinstance(connection, LimitedProtocol):
            connection.check_times(now)
    server.sweep = loop.call_later(_SWEEP_SECONDS, _sweep, state, server)
