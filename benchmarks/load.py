"""`python -m benchmarks.load`: sends HTTP requests as fast as they are answered, or at a fixed rate.

It is a separate process on raw sockets, so that it is not the bottleneck. It reads one JSON object (`Load`) from stdin
and writes one (`Measured`) to stdout.
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
    """`requests` are whole HTTP messages and are sent in turn.

    `rate` is in requests per second; with 0 each connection sends its next request as soon as the last is answered.
    An answer with another status than `status` counts as a failure.
    """

    port: int
    requests: list[str]
    status: int
    seconds: float
    connections: int = 32
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Answers per second, latency percentiles, failures, and how busy the load generator itself was."""

    a_second: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    failures: int
    processor: float  # cores that this process used


class Connection(asyncio.Protocol):
    """A connection with at most one request that is not answered yet."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._began = 0.0
        self._left = -1  # bytes of the body to come; -1 until the head is complete
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
            self._ok = self._head[9:12] == self._generator.status
            self._left = length - (len(self._head) - end - 4)
        else:
            self._left -= len(data)
        if self._left == 0:
            self._left, self._head = -1, b""
            self._generator.answered(self, time.perf_counter() - self._began, ok=self._ok)


class Generator:
    """All connections, and the latencies and failures so far."""

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
        latencies = sorted(self._seconds)
        return Measured(
            a_second=len(latencies) / self._load.seconds,
            p50_ms=latencies[len(latencies) // 2] * 1000,
            p99_ms=latencies[int(len(latencies) * 0.99)] * 1000,
            worst_ms=latencies[-1] * 1000,
            failures=self._failures + len(self._waiting),
            processor=(time.process_time() - processor) / (time.perf_counter() - start),
        )

    async def _at_a_rate(self, start: float) -> None:
        """Latency counts from when a request was due, not from when a connection was free for it."""
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
        """Count an answer, and give the connection its next request."""
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
    print(json.dumps(asdict(uvloop.run(Generator(Load(**json.load(sys.stdin))).run()))))
