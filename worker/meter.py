"""Listens to the model process and counts loads, phases, steps and memory. What cannot be written is lost."""

from __future__ import annotations

import logging
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from jobs.metrics import observe, tell_memory

log = logging.getLogger(__name__)


class Meter:
    """Hears every message of one worker's model process."""

    def __init__(self, redis: Redis, worker: str) -> None:
        self._redis = redis
        self._worker = worker
        self._steps = 0

    def hear(self, message: dict[str, Any]) -> None:
        """Count what a message tells. Never fails."""
        try:
            match message["kind"]:
                case "step":
                    self._steps = message["total_steps"]
                case "loaded":
                    self._count({}, load=(message["model"], message["seconds"]))
                    self._tell(message.get("memory"))
                case "done":
                    self._count(message["timings"])
                    self._tell(message.get("memory"))
        except RedisError as error:
            log.debug("not counted: %s", error)

    def measured(self, timings: dict[str, float]) -> None:
        """Count the seconds of phases outside the model process. Never fails."""
        try:
            self._count(timings)
        except RedisError as error:
            log.debug("not counted: %s", error)

    def _count(self, timings: dict[str, float], load: tuple[str, float] | None = None) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            if load:
                observe(pipe, "load", *load)
            for phase, seconds in timings.items():
                if phase != "load":  # counted when it happened
                    observe(pipe, "phase", phase, seconds)
            if self._steps and "denoise" in timings:
                observe(pipe, "step", "", timings["denoise"] / self._steps)
            pipe.execute()

    def _tell(self, memory: dict[str, Any] | None) -> None:
        if memory:
            tell_memory(self._redis, self._worker, memory)
