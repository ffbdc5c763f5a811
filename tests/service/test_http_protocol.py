"""What a client may do to a connection before its request reaches the application."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.http_protocol import ConnectionLimits, LimitedProtocol
from testkit.processes import eventually

LIMITS = ConnectionLimits(
    head_bytes=4096, head_seconds=1.0, body_idle=1.0, body_bytes_per_second=100_000, write_idle=1.0, connections=8
)


class Server:
    """uvicorn with an application that answers with the size of the body."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.release = threading.Event()
        config = uvicorn.Config(self, http=partial(LimitedProtocol, limits=LIMITS), ws="none", log_config=None, port=0)
        self.uvicorn = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        self.seen.append(scope["path"])
        response: Response
        try:
            if scope["path"] == "/endless":
                response = StreamingResponse(b"x" * 65536 for _ in iter(int, 1))
            else:
                response = PlainTextResponse(f"{len(await request.body())} bytes")
        except ClientDisconnect:
            self.seen.append("disconnected")
            return
        await response(scope, receive, send)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    thread = threading.Thread(target=started.uvicorn.run, kwargs={"sockets": [started.socket]})
    thread.start()
    eventually(lambda: started.uvicorn.started, 10, "uvicorn listens")
    yield started
    started.uvicorn.should_exit = True
    thread.join()


@pytest.fixture(autouse=True)
def no_connections_left(server: Server) -> Iterator[None]:
    server.seen.clear()
    yield
    eventually(lambda: not server.uvicorn.server_state.connections, 10, "every connection is closed")


def answer(client: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and problem of what the server sends before it closes."""
    data = b""
    while part := client.recv(65536):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"content-type: application/problem+json" in head.lower()
    return int(head.split()[1]), json.loads(body)


def sent(client: socket.socket, *parts: bytes) -> socket.socket:
    for part in parts:
        client.sendall(part)
    return client


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX: " + b"a" * 8_000_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"Trailer: x\r\n" * 600_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"extension" * 600_000,
    ],
    ids=["one endless header", "one large header", "many headers", "a long path", "trailers", "a chunk's extension"],
)
def test_a_head_over_the_limit_is_refused_with_431(server: Server, head: bytes) -> None:
    with closing(server.connect()) as client:
        status, problem = answer(sent(client, head))
    assert (status, problem["type"]) == (431, "urn:panoramas:problem:headers-too-large")
    assert not [path for path in server.seen if path not in {"/", "disconnected"}]


def test_headers_within_the_limit_and_large_bodies_pass(server: Server) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as http:
        for _ in range(3):
            assert http.post("/", headers={"X": "a" * 3000}, content=b"b" * 3_000_000).text == "3000000 bytes"


@pytest.mark.parametrize(
    "part",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n12345678"],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
def test_a_request_that_does_not_arrive_is_dropped_with_408(server: Server, part: bytes) -> None:
    start = time.monotonic()
    with closing(server.connect()) as client:
        status, problem = answer(sent(client, part))
    assert (status, problem["type"]) == (408, "urn:panoramas:problem:request-timeout")
    assert 0.9 < time.monotonic() - start < 4
    seen = ["/", "disconnected"] if part.startswith(b"POST") else []
    eventually(lambda: server.seen == seen, 5, "the handler waits no longer")


def test_a_body_that_drips_is_dropped_with_408(server: Server) -> None:
    with closing(server.connect()) as client:
        sent(client, b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        for _ in range(30):
            if "disconnected" not in server.seen:
                client.sendall(b"x")
                time.sleep(0.1)
        assert answer(client)[0] == 408


def test_a_client_that_reads_nothing_of_its_answer_is_dropped(server: Server) -> None:
    with closing(server.connect()) as client:
        sent(client, b"GET /endless HTTP/1.1\r\n\r\n")
        eventually(lambda: server.uvicorn.server_state.connections, 5, "it is connected")
        eventually(lambda: not server.uvicorn.server_state.connections, 10, "it is dropped")


@contextmanager
def idle(server: Server, count: int) -> Iterator[list[socket.socket]]:
    clients = [server.connect() for _ in range(count)]
    eventually(lambda: len(server.uvicorn.server_state.connections) == count, 5, "all are connected")
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def test_beyond_the_bound_the_longest_idle_connection_makes_room(server: Server) -> None:
    with idle(server, LIMITS.connections) as clients:
        assert httpx.get(f"http://127.0.0.1:{server.port}/").status_code == 200
        assert clients[0].recv(1) == b""
        assert b"200 OK" in sent(clients[1], b"GET / HTTP/1.1\r\n\r\n").recv(1000)


def test_a_client_is_told_503_when_every_connection_is_at_work(server: Server) -> None:
    def working() -> socket.socket:
        return sent(server.connect(), b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")

    clients = [working() for _ in range(LIMITS.connections)]
    eventually(lambda: len(server.seen) == LIMITS.connections, 5, "all are at work")
    answered = httpx.get(f"http://127.0.0.1:{server.port}/")
    assert (answered.status_code, answered.json()["type"]) == (503, "urn:panoramas:problem:too-many-connections")
    assert answered.headers["retry-after"]
    for client in clients:
        assert b"200 OK" in sent(client, b"1").recv(1000)
        client.close()


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00", b"SSH-2.0-OpenSSH\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_not_http_is_a_problem_document(server: Server, junk: bytes) -> None:
    with closing(server.connect()) as client:
        status, problem = answer(sent(client, junk))
    assert (status, problem["type"]) == (400, "urn:panoramas:problem:not-http")


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
def test_a_request_that_asks_for_an_upgrade_is_answered_in_http_1_with_its_body_read(
    server: Server, upgrade: bytes
) -> None:
    head = (
        b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nContent-Length: 5\r\n\r\n" % upgrade
    )
    with closing(server.connect()) as client:
        for _ in range(2):  # the connection stays open
            data = sent(client, head, b"12", b"345").recv(65536)
            assert data.startswith(b"HTTP/1.1 200")
            assert data.endswith(b"5 bytes")
    assert server.seen == ["/", "/"]


def test_requests_in_one_packet_are_answered_in_order(server: Server) -> None:
    with closing(server.connect()) as client:
        sent(
            client,
            b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(20)) + b"GET /end HTTP/1.0\r\n\r\n",
        )
        data = b""
        while part := client.recv(65536):
            data += part
    assert data.count(b"200 OK") == 21
    assert server.seen == [*(f"/{number}" for number in range(20)), "/end"]


def test_thousands_of_requests_in_one_packet_are_parsed_as_they_are_answered(server: Server) -> None:
    with closing(server.connect()) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n" * 5000 + b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\n123456789")
        data = b""
        while part := client.recv(1 << 20):
            data += part
    assert data.count(b"200 OK") == 5001
    assert data.endswith(b"9 bytes")


def test_connect_is_refused(server: Server) -> None:
    with closing(server.connect()) as client:
        assert answer(sent(client, b"CONNECT example.org:443 HTTP/1.1\r\n\r\n"))[0] == 405
