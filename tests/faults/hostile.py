"""`python -m tests.faults.hostile`: floods of every shape at a running API, whose health is measured meanwhile.

Prints a table. Fails when `/livez` is late, memory grows, or anything but a refusal is answered.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api

P99_MS, WORST_MS, API_MIB, REDIS_MIB = 100.0, 500.0, 400.0, 192.0
_MIB = 1 << 20
JSON, LINES, PNG = "application/json", "application/x-ndjson", "image/png"


@dataclass
class Answers:
    """What an attack was answered with: statuses, `cut` for a connection that ended without an answer."""

    seen: Counter[str] = field(default_factory=Counter)

    def add(self, status: int | str) -> None:
        self.seen[str(status)] += 1

    def __str__(self) -> str:
        return ", ".join(f"{count} x {status}" if count > 1 else status for status, count in sorted(self.seen.items()))


Attack = Callable[[str, Answers], None]


# How attacks send


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=90)


def _raw(pieces: Callable[[], Iterator[bytes]], url: str, answers: Answers) -> None:
    """Send pieces for as long as the server takes them, then read its answer."""
    with closing(_connect(url)) as client:
        with suppress(OSError):  # once the server has heard enough
            for piece in pieces():
                client.sendall(piece)
        try:
            line = client.recv(4096).split(b"\r\n")[0].split()
            answers.add(int(line[1]) if len(line) > 1 else "cut")
        except OSError:
            answers.add("cut")


def _post(path: str, media_type: str, body: Callable[[], bytes], url: str, answers: Answers, *, times: int = 1) -> None:
    data = body()

    def send(_: int) -> int | str:
        with closing(HTTPConnection(urlsplit(url).netloc, timeout=120)) as http:  # httpx costs more than the API does
            try:
                http.request("POST", path, data, {"Content-Type": media_type})
                answer = http.getresponse()
                size = len(answer.read())
            except (OSError, HTTPException):
                return "cut"
        return answer.status if size <= 64 * 1024 else f"{answer.status} of {size} B"

    with ThreadPoolExecutor(min(times, 16)) as pool:
        for status in pool.map(send, range(times)):
            answers.add(status)


def _many(count: int, sent: bytes, seconds: float, url: str, answers: Answers) -> None:
    """Open many connections, send the same on each, and leave them alone."""
    clients = []
    try:
        for _ in range(count):
            try:
                client = _connect(url)
                client.sendall(sent)
                clients.append(client)
            except OSError:
                answers.add("cut")
        time.sleep(seconds)
        for client in clients:
            client.settimeout(0.05)
            try:
                line = client.recv(4096).split(b"\r\n")[0].split()
                answers.add(int(line[1]) if len(line) > 1 else "cut")
            except OSError:
                answers.add("cut" if not isinstance(sys.exc_info()[1], TimeoutError) else "open")
    finally:
        for client in clients:
            client.close()


def _drip(count: int, seconds: float, url: str, answers: Answers) -> None:
    """Bodies of which a byte comes each second."""
    head = b"POST /panoramas HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
    clients = [_connect(url) for _ in range(count)]
    for client in clients:
        client.sendall(head)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for client in clients:
            with suppress(OSError):
                client.sendall(b" ")
        time.sleep(1)
    for client in clients:
        client.settimeout(1)
        try:
            answers.add(int(client.recv(4096).split()[1]))
        except (OSError, IndexError):
            answers.add("cut")
        client.close()


def _unread(count: int, seconds: float, url: str, answers: Answers) -> None:
    """Ask for much in one packet and read nothing of it."""
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500
    clients = []
    for _ in range(count):
        client = _connect(url)
        client.setblocking(False)
        with suppress(OSError):
            client.send(asked)
        clients.append(client)
    time.sleep(seconds)
    for client in clients:
        client.close()
        answers.add("unread")


# What attacks send


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _endless_header(mebibytes: int) -> Iterator[bytes]:
    yield b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "
    for _ in range(mebibytes):
        yield b"a" * _MIB


def _many_headers() -> Iterator[bytes]:
    yield b"GET /livez HTTP/1.1\r\n"
    for _ in range(64):
        yield b"A: b\r\n" * 170_000


def _fields(count: int) -> bytes:
    return b"{" + b",".join(b'"%x":1' % number for number in range(count)) + b"}"


def _kept() -> bytes:
    item = json.dumps({**PANORAMA, "metadata": {"a": "b" * 16_000}}).encode()
    return b"\n".join([item] * 3000)


def _traces(url: str, answers: Answers) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01-{'c' * 20_000}"
    body = b"\n".join([json.dumps({**PANORAMA, "width": 100}).encode()] * 200)
    for _ in range(5):
        headers = {"content-type": LINES, "traceparent": trace}
        answers.add(httpx.post(f"{url}/batches", content=body, headers=headers, timeout=60).status_code)


def _odd_headers(url: str, answers: Answers) -> None:
    for headers in (
        {"range": f"bytes={'9' * 5000}-"},
        {"accept": "image/png," * 3000},
        {"accept-encoding": "gzip;q=0." + "1" * 20_000},
        {"prefer": "wait=1," * 3000},
        {"if-none-match": '"a",' * 6000},
        {"last-event-id": "9" * 20_000},
        {"idempotency-key": "a" * 20_000},
        {"authorization": "Bearer " + "a" * 20_000},
        {"cookie": "a=b;" * 7000},
    ):
        for path in (f"/jobs/{'0' * 32}/image", f"/jobs/{'0' * 32}/events", f"/jobs?{'a=1&' * 2000}"):
            answers.add(httpx.get(f"{url}{path}", headers=headers, timeout=60).status_code)


ATTACKS: dict[str, Attack] = {
    "nothing, for comparison": lambda _url, _answers: time.sleep(5),
    "a header of 256 MiB": partial(_raw, partial(_endless_header, 256)),
    "64 MiB of small headers": partial(_raw, _many_headers),
    "1,000 requests sent by half": partial(_many, 1000, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", 13.0),
    "4,000 silent connections": partial(_many, 4000, b"", 13.0),
    "200 bodies that drip": partial(_drip, 200, 22.0),
    "100 clients that read nothing": partial(_unread, 100, 5.0),
    "odd headers": _odd_headers,
    "long traces": _traces,
    "60 KB of unknown fields, 100 times": partial(_post, "/panoramas", JSON, partial(_fields, 6500), times=100),
    "a batch of one line of unknown fields, 15 MiB": partial(
        _post, "/batches", JSON, lambda: b'{"items":[' + _fields(1_500_000) + b"]}"
    ),
    "wrong items, 60 MiB": partial(_post, "/batches", JSON, lambda: b'{"items":[' + b"[]," * 20_000_000 + b"[]]}"),
    "9,999 wrong lines, 8 times": partial(_post, "/batches", LINES, lambda: b"[]\n" * 9999, times=8),
    "64 MiB of line ends, 8 times": partial(_post, "/batches", LINES, lambda: b"\n" * (64 * _MIB), times=8),
    "a PNG of empty chunks, 64 MiB": partial(
        _post, "/panoramas", PNG, lambda: b"\x89PNG\r\n\x1a\n" + _chunk(b"tEXt") * (5 * _MIB)
    ),
    "a PNG with a bomb, 20 times": partial(
        _post,
        "/panoramas",
        PNG,
        lambda: b"\x89PNG\r\n\x1a\n" + _chunk(b"iTXt", b"recipe\0\1\0\0\0" + zlib.compress(b" " * (100 * _MIB))),
        times=20,
    ),
    "deep JSON, 20 MiB": partial(_post, "/batches", JSON, lambda: b"[" * (20 * _MIB)),
    "huge numbers, 50 times": partial(
        _post, "/panoramas", JSON, lambda: b'{"prompt":"a","seed":' + b"9" * 60_000 + b"}", times=50
    ),
    "more than may be kept: 6 batches of 48 MB, canceled": partial(_post, "/batches", LINES, _kept, times=6),
}


def probe(url: str, pid: int, results: Connection) -> None:
    """Ask `/livez` on a new connection every 20 ms, and look at the memory, until something is sent."""
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    latencies, memory, process = [], 0, psutil.Process(pid)
    while not results.poll():
        begin = time.perf_counter()
        with closing(HTTPConnection(urlsplit(url).netloc, timeout=60)) as http:
            try:
                http.request("GET", "/livez")
                answered = http.getresponse().status == 200
            except (OSError, HTTPException):
                answered = False
        latencies.append((time.perf_counter() - begin) * 1000 if answered else 60_000.0)
        memory = max(memory, process.memory_info().rss)
        time.sleep(0.02)
    results.send((latencies, memory))


@contextmanager
def probed(url: str, pid: int) -> Iterator[dict[str, float]]:
    """`p99` and `worst` in ms and the API's largest `memory` in MiB, once the block has ended."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=probe, args=(url, pid, there))
    process.start()
    time.sleep(0.5)
    figures: dict[str, float] = {}
    yield figures
    here.send(None)
    latencies, memory = here.recv()
    process.join()
    figures["p99"] = (
        statistics.quantiles(latencies, n=100, method="inclusive")[-1] if len(latencies) > 1 else latencies[0]
    )
    figures["worst"] = max(latencies)
    figures["memory"] = memory / _MIB


def run(api: WorkerlessApi, name: str) -> list[str]:
    """Run one attack and print its row; what was wrong."""
    url, answers = api.stack.url, Answers()
    before = api.redis.info("memory")["used_memory"]
    with probed(url, api.stack.processes[-1].pid) as figures:
        os.setpriority(os.PRIO_PROCESS, 0, 5)  # an attacker has processors of its own
        ATTACKS[name](url, answers)
    grown = (api.redis.info("memory")["used_memory"] - before) / _MIB
    measured = " | ".join(f"{figures[figure]:.0f}" for figure in ("p99", "worst", "memory"))
    print(f"| {name} | {answers} | {measured} | {grown:.1f} |", flush=True)
    faults = [f"answered {status}" for status in answers.seen if status[:3] in {"200", "204", "500", "502", "504"}]
    for what, value, most in (
        ("p99 of /livez in ms", figures["p99"], P99_MS),
        ("worst of /livez in ms", figures["worst"], WORST_MS),
        ("the API's memory in MiB", figures["memory"], API_MIB),
        ("growth of Redis in MiB", grown, REDIS_MIB),
    ):
        if value > most:
            faults.append(f"{what} is {value:.0f}, over {most:.0f}")
    for batch in api.http.get("/jobs?state=queued&limit=100").json()["items"]:
        if batch["batch_id"]:
            api.http.post(f"/batches/{batch['batch_id']}/cancel")
    return [f"{name}: {fault}" for fault in faults]


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=ATTACKS, action="append")
    names = parser.parse_args().only or list(ATTACKS)
    faults = []
    with tempfile.TemporaryDirectory() as folder, running_workerless_api(Path(folder)) as api:
        print("| Attack | Answers | /livez p99, ms | worst, ms | API, MiB | Redis grew, MiB |")
        print("|---|---|---|---|---|---|")
        for name in names:
            faults += run(api, name)
    for fault in faults:
        print(f"FAILED {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
