"""Listens to the model process and counts loads, phases, steps and memory. What cannot be written is lost."""

from __future__ import annotations

import logging
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from jobs.metrics import observe, tell_memory

log = logging.getLogger(__name__)


class Meter:
    """Hears what one worker's model process says, and of each picture that is `finished`. Thread-safe."""

    def __init__(self, redis: Redis, worker: str) -> None:
        self._redis = redis
        self._worker = worker

    def hear(self, message: dict[str, Any]) -> None:
        """Count what a message tells. Never fails."""
        try:
            match message["kind"]:
                case "loaded":
                    self._count({}, load=(message["model"], message["seconds"]))
                    self._tell(message.get("memory"))
                case "finished":  # and not at `done`: the model process would wait for Redis
                    self._count(message["timings"], steps=message.get("total_steps"))
                    self._tell(message.get("memory"))
        except RedisError as error:
            log.debug("not counted: %s", error)

    def _count(
        self, timings: dict[str, float], *, steps: int | None = None, load: tuple[str, float] | None = None
    ) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            if load:
                observe(pipe, "load", *load)
            for phase, seconds in timings.items():
                if phase != "load":  # counted when it happened
                    observe(pipe, "phase", phase, seconds)
            if steps and "denoise" in timings:
                observe(pipe, "step", "", timings["denoise"] / steps)
            pipe.execute()

    def _tell(self, memory: dict[str, Any] | None) -> None:
        if memory:
            tell_memory(self._redis, self._worker, memory)
