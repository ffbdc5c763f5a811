"""A small Hugging Face hub on this machine, for what huggingface_hub asks of one, and a record of what was asked."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """`repositories` are folders by name; each has one commit, which follows from its files.

    `hangs` are beginnings of paths that are never answered. `token` is what `private` repositories ask for.
    """

    repositories: dict[str, Path]
    hangs: tuple[str, ...] = ()
    private: frozenset[str] = frozenset()
    token: str = "hf_secret"
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def commit(self, name: str) -> str:
        """The commit of a repository, 40 hex digits."""
        digest = hashlib.sha1()
        for path in self.files(name):
            digest.update(path.encode() + (self.repositories[name] / path).read_bytes())
        return digest.hexdigest()

    def files(self, name: str) -> list[str]:
        """Paths of its files."""
        folder = self.repositories[name]
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def fetched(self) -> list[str]:
        """Paths of files whose content was asked for."""
        return sorted(
            {
                line.split("/resolve/")[1].split("/", 1)[1]
                for line in self.asked
                if line.startswith("GET /") and "/resolve/" in line
            }
        )


@contextmanager
def running_hub(**repositories_and_options: object) -> Iterator[Hub]:
    """Serve a hub on a free port."""
    hub = Hub(**repositories_and_options)  # type: ignore[arg-type]
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if path.startswith(self.hub.hangs or "\0"):
            time.sleep(120)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._fail(404, "EntryNotFound")

    def _api(self, name: str, rest: list[str]) -> None:
        if not self._may(name):
            return
        commit = self.hub.commit(name)
        if len(rest) > 1 and rest[1] not in ("main", commit):
            self._fail(404, "RevisionNotFound")
        elif rest[:1] == ["tree"]:
            folder = self.hub.repositories[name]
            entries = [
                {"type": "file", "path": path, "size": (folder / path).stat().st_size, "oid": "0" * 40}
                for path in self.hub.files(name)
            ]
            self._send(200, json.dumps(entries).encode(), {})
        else:
            siblings = [{"rfilename": path} for path in self.hub.files(name)]
            info = {"id": name, "sha": commit, "siblings": siblings, "tags": [], "private": False, "downloads": 0}
            self._send(200, json.dumps(info).encode(), {})

    def _file(self, name: str, revision: str, path: str) -> None:
        if not self._may(name):
            return
        file, commit = self.hub.repositories[name] / path, self.hub.commit(name)
        if revision not in ("main", commit):
            self._fail(404, "RevisionNotFound")
        elif not file.is_file():
            self._fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
        else:
            content = file.read_bytes()
            tags = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
            self._send(200, content, tags)

    def _may(self, name: str) -> bool:
        allowed = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if name in self.hub.repositories and (name not in self.hub.private or allowed):
            return True
        self._fail(401, "RepoNotFound")
        return False

    def _fail(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
