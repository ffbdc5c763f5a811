"""What each worker can paint. Workers write it beside their heartbeat; claims and health checks read it.

The entry of a worker is JSON: `able`, the models that it paints; `broken`, why it cannot load others; `out`, why it
takes no jobs for now, if so; and `kept`, how many pictures wait on its disk for the image store. A worker without an
entry is of an earlier version; it counts as able to paint everything.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)

RETRY_SECONDS = 300.0


class Abilities:
    """The models of one worker. Thread-safe.

    A model that could not be loaded is tried again with the first job for it after `retry_seconds`: the reason may have
    been a network, or a folder that was still being copied.
    """

    def __init__(self, models: Iterable[str], *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._models = tuple(models)
        self._retry_seconds = retry_seconds
        self._broken: dict[str, tuple[str, float]] = {}
        self._said: dict[str, str] = {}
        self._out: dict[str, str] = {}
        self.kept = 0  # pictures that wait on this worker's disk for the image store
        self._lock = threading.Lock()

    def mark_broken(self, model: str, reason: str) -> None:
        """This worker could not load the model. The log says each reason once."""
        with self._lock:
            self._broken[model] = (reason, time.monotonic())
            if self._said.get(model) == reason:
                return
            self._said[model] = reason
        log.error("model %s is not available on this worker, which goes on with the others: %s", model, reason)

    def mark_loaded(self, model: str) -> None:
        """This worker has loaded the model."""
        with self._lock:
            self._broken.pop(model, None)
            self._said.pop(model, None)

    def take_out(self, reason: str, cause: str = "model") -> None:
        """This worker takes no jobs for now. Each cause has its own reason, of which the last one counts."""
        with self._lock:
            self._out[cause] = reason

    def put_back(self, cause: str = "model") -> None:
        """This cause has gone. Without any, the worker takes jobs again."""
        with self._lock:
            self._out.pop(cause, None)

    @property
    def able(self) -> list[str]:
        """The models that this worker may claim jobs for."""
        return [] if self._out else self.loadable

    @property
    def loadable(self) -> list[str]:
        """The models that this worker has loaded, or may try to load."""
        now = time.monotonic()
        with self._lock:
            waiting = {name for name, (_, since) in self._broken.items() if now - since < self._retry_seconds}
        return [name for name in self._models if name not in waiting]

    def entry(self) -> str:
        """The worker's entry. A model that failed counts as broken until it is loaded, also while it is tried again."""
        with self._lock:
            rest = {"out": "; ".join(self._out.values())} if self._out else {}
            kept = {"kept": self.kept} if self.kept else {}
            broken = {name: reason for name, (reason, _) in self._broken.items()}
        return json.dumps(
            {"able": [name for name in self._models if name not in broken], "broken": broken, **rest, **kept}
        )


def out_of_service(entries: Mapping[str, str | None]) -> dict[str, str]:
    """Why workers take no jobs for now, by their names, from the living workers' entries."""
    read = {name: json.loads(entry).get("out") for name, entry in entries.items() if entry}
    return {name: reason for name, reason in sorted(read.items()) if reason}


def kept_pictures(entries: Mapping[str, str | None]) -> int:
    """How many pictures wait on the disks of workers, from the living workers' entries."""
    return sum(json.loads(entry).get("kept", 0) for entry in entries.values() if entry)


def unavailable(entries: Mapping[str, str | None]) -> dict[str, str]:
    """Why models cannot be painted, and on how many of the workers, from the living workers' entries."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for entry in entries.values():
        for model, reason in (json.loads(entry)["broken"] if entry else {}).items():
            reasons[model].append(reason)
    return {model: f"on {len(given)} of {len(entries)} workers: {given[0]}" for model, given in sorted(reasons.items())}
