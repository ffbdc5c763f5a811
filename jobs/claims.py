"""The worker's side of the jobs, synchronous: claim, renew, commit, put back. Every write is fenced by the token.

An attempt owns its job while the record says `running` with the attempt's token. Its lease ends by Redis's clock; then
anyone's reconciliation puts the job back, the next claim draws a higher token, and whatever the late attempt still
writes is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redis import Redis

from jobs import keys
from jobs.envelope import envelope
from jobs.problems import PROBLEMS
from jobs.record import JobRecord, State, pairs, read_record
from jobs.scripts import source
from jobs.store import ImageFile

PREVIEW_SECONDS = 60  # one of each step is kept for so long,
LATEST_PREVIEW_SECONDS = 3600  # and the latest for longer than any step takes


@dataclass(frozen=True, slots=True)
class Terms:
    """Times and limits of the promise that a 202 makes."""

    lease_seconds: float = 10.0
    dispatch_grace_seconds: float = 5.0
    max_attempts: int = 3
    retention_seconds: int = 86_400
    tombstone_seconds: int = 7 * 86_400

    @property
    def lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    @property
    def retention_ms(self) -> int:
        return self.retention_seconds * 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job failed, in the words of RFC 9457; becomes the job's `error`."""

    type: str
    title: str
    status: int
    detail: str


def _silent(terms: Terms) -> Fault:
    """The fault of a last attempt that ended without a word."""
    problem = PROBLEMS["attempts-used-up"]
    return Fault(
        problem.urn,
        problem.title,
        problem.status,
        f"attempt {terms.max_attempts} of {terms.max_attempts}: its worker died or was silent for"
        f" {terms.lease_seconds:g} s",
    )


def living_workers(redis: Redis) -> list[str]:
    """Names of the worker processes that showed a sign of life within the last seconds."""
    seconds, micros = redis.time()
    oldest = seconds * 1000 + micros // 1000 - keys.WORKER_SILENCE_MS
    return [str(name) for name in redis.zrangebyscore(keys.WORKERS, oldest, "+inf")]


class JobClaims:
    """Jobs as a worker holds them, on a Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis, worker: str, terms: Terms) -> None:
        self._redis = redis
        self._worker = worker
        self.terms = terms
        self._scripts = {
            name: redis.register_script(source(name))
            for name in ("claim", "renew", "progress", "preview", "finish", "release", "reconcile", "expire")
        }

    def claim(self, job_id: str) -> JobRecord | None:
        """queued -> running under a new token; None when the job is not there to be claimed (canceled, taken, done)."""
        flat = self._scripts["claim"](args=[envelope(), job_id, self._worker, self.terms.lease_ms])
        return None if flat is None else read_record(job_id, dict(zip(flat[::2], flat[1::2], strict=True)))

    def renew(self, job_id: str, token: int) -> str:
        """Extend the lease. Answers `ok`, `cancel` (end it) or `lost` (somebody else's now: drop it)."""
        return self._scripts["renew"](args=[job_id, token, self.terms.lease_ms])

    def progress(self, job_id: str, token: int, **fields: Any) -> str:
        """Record phase and steps. Answers as `renew` does."""
        return self._scripts["progress"](args=[job_id, token, *pairs(fields)])

    def preview(self, job_id: str, token: int, step: int, image: bytes) -> str:
        """Show a small picture of the unfinished canvas for a while. Answers `ok` or `lost`."""
        encoded = base64.b64encode(image).decode()
        return self._scripts["preview"](args=[job_id, token, step, encoded, PREVIEW_SECONDS, LATEST_PREVIEW_SECONDS])

    def finish(self, job_id: str, token: int, state: State, **fields: Any) -> State | None:
        """Enter a terminal state. A cancel that was acknowledged wins over any other end.

        Returns the state in which this attempt left the job, however often it is asked: an answer may have been lost.
        None for a late attempt, which changes nothing.
        """
        entered = self._scripts["finish"](args=[job_id, token, state, self.terms.retention_ms, *pairs(fields)])
        return State(entered) if entered else None

    def release(self, job_id: str, token: int, *, fault: Fault, give_back: bool = False) -> State | None:
        """Put the job back into its place in the queue, or end it with `fault` when its attempts are used up.

        `give_back` is for a worker that stops on purpose: the attempt does not count. Returns as `finish` does.
        """
        entered = self._scripts["release"](
            args=[
                envelope(),
                job_id,
                token,
                self.terms.retention_ms,
                self.terms.max_attempts,
                int(give_back),
                pairs({"error": asdict(fault)})[1],
            ]
        )
        return State(entered) if entered else None

    def reconcile(self) -> tuple[int, int]:
        """Put back what a dead worker left. Returns how many leases had expired and how many hand-overs were lost."""
        expired, lost = self._scripts["reconcile"](
            args=[
                envelope(),
                self.terms.retention_ms,
                self.terms.max_attempts,
                int(self.terms.dispatch_grace_seconds * 1000),
                pairs({"error": asdict(_silent(self.terms))})[1],
            ]
        )
        return expired, lost

    def now(self) -> int:
        """Milliseconds since the epoch on Redis's clock."""
        seconds, micros = self._redis.time()
        return seconds * 1000 + micros // 1000

    def beat(self, *, stopping: bool = False) -> None:
        """Say that this worker process lives, or leaves."""
        now = self.now()
        if stopping:
            self._redis.zrem(keys.WORKERS, self._worker)
        else:
            self._redis.zadd(keys.WORKERS, {self._worker: now})
            self._redis.zremrangebyscore(keys.WORKERS, "-inf", now - 60_000)

    def due_for_expiry(self, limit: int = 100) -> list[JobRecord]:
        """Terminal jobs whose retention is over."""
        ids = [str(name) for name in self._redis.zrangebyscore(keys.FINISHED, "-inf", self.now(), start=0, num=limit)]
        records = []
        for job_id in ids:
            fields: dict[str, str] = self._redis.hgetall(keys.job(job_id))  # type: ignore[assignment]
            if fields:
                records.append(read_record(job_id, fields))
            else:
                self._redis.zrem(keys.FINISHED, job_id)
        return records

    def expire(self, job_id: str) -> None:
        """Terminal -> expired, after its image is gone: the record stays a while as the tombstone behind a 410."""
        self._scripts["expire"](args=[job_id, self.terms.tombstone_seconds])

    def sweep_turn(self, seconds: int) -> bool:
        """Whether it is this worker's turn to look for orphans; nobody else's within `seconds`."""
        return bool(self._redis.set(keys.SWEEP, self._worker, nx=True, ex=seconds))

    def unwanted(self, images: Sequence[ImageFile]) -> list[str]:
        """Names of those `images` that are no job's result and cannot become one any more.

        Of a job that is not known only once it must be long gone: the store may be somebody else's as well.
        """
        forgotten = self.terms.retention_seconds + self.terms.tombstone_seconds
        with self._redis.pipeline(transaction=False) as pipe:
            for image in images:
                pipe.hmget(keys.job(image.job_id), "state", "token", "result")
            found = pipe.execute()
        gone = []
        for image, (state, token, result) in zip(images, found, strict=True):
            if state is None:
                wanted = image.age < forgotten
            elif state == State.RUNNING:
                wanted = int(token) == image.token
            else:
                wanted = bool(result) and json.loads(result)["key"] == image.key
            if not wanted:
                gone.append(image.key)
        return gone
