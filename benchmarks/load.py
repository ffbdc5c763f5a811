"""`python -m benchmarks.load`: HTTP requests as fast as they are answered, or at a rate that does not wait for answers.

A process of its own, of raw sockets and little else, so that it is not what is measured. It reads one JSON object from
its standard input (`Load`) and writes one to its standard output: requests a second, and percentiles in ms.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass

import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` are sent in turn, whole as they are on the wire. `rate` a second; 0: each connection sends the next
    once the last is answered. Statuses other than `status` are counted as failures."""

    port: int
    requests: list[str]
    status: int
    seconds: float
    connections: int = 32
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    a_second: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    failures: int
    processor: float  # of this process, as a part of one core


class Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._began = 0.0
        self._left = -1  # bytes of the body to come; -1: the head is not complete
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, request: bytes, began: float) -> None:
        self._began = began
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._head[:end].lower()
            at = head.index(b"content-length:") + 15
            length = int(head[at : (head + b"\r").index(b"\r", at)])
            self._ok = self._head[9:12] == self._crowd.status
            self._left = length - (len(self._head) - end - 4)
        else:
            self._left -= len(data)
        if self._left == 0:
            self._left, self._head = -1, b""
            self._crowd.answered(self, time.perf_counter() - self._began, ok=self._ok)


class Crowd:
    """All connections, and what they have seen."""

    def __init__(self, load: Load) -> None:
        self.status = str(load.status).encode()
        self._load = load
        self._requests = [request.encode() for request in load.requests]
        self._next = 0
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._seconds: list[float] = []
        self._failures = 0
        self._ends = 0.0

    async def run(self) -> Measured:
        loop = asyncio.get_running_loop()
        for _ in range(self._load.connections):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._load.port)
            self._free.append(connection)
        processor, start = time.process_time(), time.perf_counter()
        self._ends = start + self._load.seconds
        if self._load.rate:
            await self._at_a_rate(start)
        else:
            while self._free:
                self._send(self._free.popleft(), time.perf_counter())
        await asyncio.sleep(max(self._ends - time.perf_counter(), 0) + 0.5)
        seen = sorted(self._seconds)
        return Measured(
            a_second=len(seen) / self._load.seconds,
            p50_ms=seen[len(seen) // 2] * 1000,
            p99_ms=seen[int(len(seen) * 0.99)] * 1000,
            worst_ms=seen[-1] * 1000,
            failures=self._failures + len(self._waiting),
            processor=(time.process_time() - processor) / (time.perf_counter() - start),
        )

    async def _at_a_rate(self, start: float) -> None:
        """An answer's time counts from when its request was due, not from when a connection was free for it."""
        for number in range(int(self._load.rate * self._load.seconds)):
            due = start + number / self._load.rate
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            if self._free:
                self._send(self._free.popleft(), due)
            else:
                self._waiting.append(due)

    def _send(self, connection: Connection, began: float) -> None:
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        connection.send(request, began)

    def answered(self, connection: Connection, seconds: float, *, ok: bool) -> None:
        """Count it, and give the connection its next request."""
        now = time.perf_counter()
        self._failures += not ok
        if self._load.rate or now < self._ends:
            self._seconds.append(seconds)
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        elif self._load.rate or now >= self._ends:
            self._free.append(connection)
        else:
            self._send(connection, now)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(Crowd(Load(**json.load(sys.stdin))).run()))))
