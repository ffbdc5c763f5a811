"""Counts model loads, phases, steps and memory in Redis. What cannot be written is dropped, so no job waits for it."""

from __future__ import annotations

import logging
from dataclasses import asdict

from redis import Redis
from redis.exceptions import RedisError

from jobs.metrics import observe, record_memory
from worker.messages import DeviceMemory, Loaded, Report

log = logging.getLogger(__name__)


class WorkerMetrics:
    """The metrics of one worker. Its methods never fail, and may be called from any thread."""

    def __init__(self, redis: Redis, worker: str) -> None:
        self._redis = redis
        self._worker = worker

    def on_report(self, report: Report) -> None:
        """Count the loading of a model; other reports are ignored."""
        if not isinstance(report, Loaded):
            return
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                observe(pipe, "load", report.model, report.seconds)
                pipe.execute()
            self._record_memory(report.memory)
        except RedisError as error:
            log.debug("metrics not recorded: %s", error)

    def picture_finished(self, timings: dict[str, float], total_steps: int, memory: DeviceMemory | None) -> None:
        """Count a picture once it is stored. At `Done` the model process would have to wait for Redis."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for phase, seconds in timings.items():
                    if phase != "load":  # counted by `on_report`
                        observe(pipe, "phase", phase, seconds)
                if total_steps and "denoise" in timings:
                    observe(pipe, "step", "", timings["denoise"] / total_steps)
                pipe.execute()
            self._record_memory(memory)
        except RedisError as error:
            log.debug("metrics not recorded: %s", error)

    def _record_memory(self, memory: DeviceMemory | None) -> None:
        if memory:
            record_memory(self._redis, self._worker, asdict(memory))
