"""The service's and the workers' operations on jobs, called directly on a real server, without processes."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from jobs import keys
from jobs.board import JobBoard, JobView
from jobs.claims import JobClaims
from jobs.faults import Fault
from jobs.limits import JobLimits
from testkit.processes import RedisServer

FAULT = Fault("urn:test", "A test's fault", 500, "because")
RESULT = {"key": "k", "sha256": "0", "bytes": 1, "width": 8, "height": 8}


class Jobs:
    """Submits, claims and finishes jobs on one server."""

    def __init__(self, server: RedisServer, redis: Redis) -> None:
        self.server, self.redis = server, redis

    def worker(self, name: str = "a", **terms: Any) -> JobClaims:
        return JobClaims(self.redis, name, replace(JobLimits(lease_seconds=5, dispatch_grace_seconds=0), **terms))

    def submit(self, job_id: str | None = None, max_queued: int = 1000, **line: Any) -> str:
        return self._on_board(
            lambda board: board.submit(job_id or uuid.uuid4().hex, {"prompt": "a"}, {"mine": "1"}, **line), max_queued
        ).record.id

    def get(self, job_id: str) -> JobView:
        return self._on_board(lambda board: board.get(job_id))

    def token(self, job_id: str) -> str:
        """The token of the job's latest attempt."""
        token: str = self.get(job_id).record.token
        return token

    def cancel(self, job_id: str) -> bool:
        return self._on_board(lambda board: board.cancel(job_id))

    def take(self) -> str | None:
        """Pop and claim a job, as a worker does. Returns its id."""
        popped = self.pop()
        return popped if popped and self.worker().claim(popped) else None

    def pop(self) -> str | None:
        """Take an id off RQ's list, as RQ's worker does."""
        popped = self.redis.lmove(keys.RQ_LIST, keys.RQ_INTERMEDIATE, "LEFT", "RIGHT")
        return None if popped is None else str(popped)

    def expire_lease(self, job_id: str) -> None:
        self.redis.zadd(keys.RUNNING, {job_id: 1})

    def _on_board(self, action: Any, max_queued: int = 1000) -> Any:
        async def run() -> Any:
            async with AsyncRedis.from_url(self.server.url, decode_responses=True) as redis:
                return await action(JobBoard(redis, retention_seconds=100, max_queued=max_queued))

        return asyncio.run(run())
