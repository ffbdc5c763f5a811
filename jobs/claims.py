"""The worker's view of the jobs, synchronous: claim, renew, commit, put back. Every write is fenced by a token.

An attempt owns its job while the record says `running` with the attempt's token. When its lease has expired by Redis's
clock, any worker's reconciliation puts the job back, and the next claim gets another token. From then on everything
that the late attempt writes is refused.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from redis import Redis

from jobs import keys
from jobs.abilities import Abilities
from jobs.envelope import envelope
from jobs.faults import Fault
from jobs.limits import JobLimits
from jobs.reconciling import NOT_ITS_TURN, Reconciliation, beat, reconciliation
from jobs.record import JobRecord, State, pairs, read_record, token_of
from jobs.scripts import source
from jobs.store import ImageFile

LATEST_PREVIEW_SECONDS = 3600  # how long a preview is kept: longer than any step takes
PREVIEW_SECONDS = 60  # and after there was a later one


def living_workers(redis: Redis) -> list[str]:
    """Names of the worker processes with a recent heartbeat."""
    seconds, micros = redis.time()
    oldest = seconds * 1000 + micros // 1000 - keys.WORKER_SILENCE_MS
    return [str(name) for name in redis.zrangebyscore(keys.WORKERS, oldest, "+inf")]


class CannotPaint(Exception):
    """This worker cannot paint the model of the job with this id."""


def _nonce() -> str:
    """128 random bits for a claim: no other one has them, also when the server has forgotten this one."""
    return secrets.token_hex(16)


def _record(job_id: str, flat: list[str]) -> JobRecord:
    return read_record(job_id, dict(zip(flat[::2], flat[1::2], strict=True)))


class JobClaims:
    """What one worker does to jobs, on a Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis, worker: str, limits: JobLimits, abilities: Abilities | None = None) -> None:
        self._redis = redis
        self._abilities = abilities
        self._worker = worker
        self._has_turn = False
        self.limits = limits
        self._scripts = {
            name: redis.register_script(source(name))
            for name in (
                "claim",
                "renew",
                "progress",
                "preview",
                "finish",
                "release",
                "reconcile",
                "expire",
                "claim_refused",
                "beat",
                "hand_back",
                "heartbeat",
                "take_turn",
            )
        }

    def claim(self, job_id: str, *, nonce: str | None = None) -> JobRecord | None:
        """queued -> running, with a new token. None when the job is not queued any more (canceled, taken, ended).

        The same `nonce` again, which is random by default, repeats a claim whose answer was lost.

        Raises:
            CannotPaint: this worker cannot paint the job's model; the job waits for one that can.
        """
        flat = self._scripts["claim"](
            args=[envelope(), job_id, self._worker, self.limits.lease_ms, self._able(), nonce or _nonce()]
        )
        if flat == "refused":
            raise CannotPaint(job_id)
        return None if flat is None else _record(job_id, flat)

    def claim_refused(self) -> JobRecord | None:
        """As `claim`, for a job that another worker could not paint and this one can; None when there is none."""
        found = self._scripts["claim_refused"](args=[self._worker, self.limits.lease_ms, self._able(), _nonce()])
        return None if found is None else _record(*found)

    def _able(self) -> str:
        return json.dumps(self._abilities.able) if self._abilities else ""

    def state(self, job_id: str) -> State | None:
        """The state of a job; None when its record is gone."""
        state = self._redis.hget(keys.job(job_id), "state")
        return State(str(state)) if state else None

    def renew(self, job_id: str, token: str) -> str:
        """Extend the lease. Returns `ok`, `cancel` (the user wants it to end) or `lost` (the job is no longer ours)."""
        return self._scripts["renew"](args=[job_id, token, self.limits.lease_ms])

    def progress(self, job_id: str, token: str, **fields: Any) -> str:
        """Record the phase and steps. Returns the same as `renew`."""
        return self._scripts["progress"](args=[job_id, token, *pairs(fields)])

    def preview(self, job_id: str, token: str, step: int, image: bytes) -> str:
        """Store a small picture of the unfinished canvas for a while. Returns `ok`, `lost`, or `full`
        when Redis has no memory for it; the job goes on without it."""
        encoded = base64.b64encode(image).decode()
        return self._scripts["preview"](args=[job_id, token, step, encoded, LATEST_PREVIEW_SECONDS, PREVIEW_SECONDS])

    def finish(self, job_id: str, token: str, state: State, **fields: Any) -> State | None:
        """Enter a terminal state. A cancel that was acknowledged before takes precedence over any other end.

        Returns the state in which this attempt left the job, also when the call is repeated after a lost answer. None
        for a late attempt, which changes nothing.
        """
        entered = self._scripts["finish"](args=[job_id, token, state, self.limits.retention_ms, *pairs(fields)])
        return State(entered) if entered else None

    def release(self, job_id: str, token: str, *, fault: Fault, give_back: bool = False) -> State | None:
        """Put the job back at its position in the queue, or fail it with `fault` when its attempts are used up.

        Attempts are counted by whose fault it was. Another worker that can paint the job gets it next, and it does not
        fail before one has tried. `give_back` is for a worker that stops on purpose: the attempt does not count.
        Returns the same as `finish`.
        """
        entered = self._scripts["release"](
            args=[
                envelope(),
                job_id,
                token,
                self.limits.retention_ms,
                self.limits.max_attempts,
                "" if give_back else fault.blame,
                self._worker,
                pairs({"error": asdict(fault)})[1],
            ]
        )
        return State(entered) if entered else None

    def hand_back(self, job_id: str) -> None:
        """Put back a job that was popped and not claimed, so that the next worker takes it first."""
        self._scripts["hand_back"](args=[envelope(), job_id])

    def reconcile(self) -> tuple[int, int]:
        """Put back the jobs of dead workers. Returns how many leases had expired, and how many jobs were unclaimed."""
        _, expired, lost, _ = self._scripts["reconcile"](args=reconciliation(self.limits))
        return expired, lost

    def beat(self, turn_seconds: float) -> Reconciliation:
        """Record that this worker is alive, and reconcile if it is its turn, which it then keeps for a while."""
        entry, done = self._entry(), NOT_ITS_TURN
        short = beat(self.limits, self._worker, turn_seconds, entry=entry, worker=True)
        if self._has_turn or self._scripts["beat"](args=short):
            args = reconciliation(self.limits, self._worker, turn_seconds, entry=entry, worker=True)
            done = Reconciliation(*self._scripts["reconcile"](args=args))
        self._has_turn = bool(done.turn)
        return done

    def now(self) -> int:
        """Milliseconds since the epoch on Redis's clock."""
        seconds, micros = self._redis.time()
        return seconds * 1000 + micros // 1000

    def heartbeat(self, *, leaving: bool = False) -> None:
        """Record that this worker process is alive, or remove it from the list."""
        self._scripts["heartbeat"](args=[self._worker, self._entry(), int(leaving)])

    def _entry(self) -> str:
        return self._abilities.entry() if self._abilities else ""

    def due_for_expiry(self, limit: int = 100) -> list[JobRecord]:
        """Ended jobs whose retention is over."""
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
        """Terminal -> expired, once its image is deleted. The record stays for a while as a tombstone (410)."""
        self._scripts["expire"](args=[job_id, self.limits.tombstone_seconds])

    def postpone_expiry(self, job_id: str, seconds: float) -> None:
        """Leave an ended job out of `due_for_expiry` for a while: its image cannot be deleted now."""
        self._redis.zadd(keys.FINISHED, {job_id: self.now() + int(seconds * 1000)}, xx=True)

    def take_sweep(self, seconds: float) -> bool:
        """Whether it is this worker's turn to delete expired jobs. It keeps the turn if it asks again in time."""
        return bool(self._scripts["take_turn"](args=[keys.SWEEPER, self._worker, int(seconds * 1000)]))

    def claim_orphan_sweep(self, seconds: int) -> bool:
        """Whether this worker may look for orphaned images now; no other worker may within `seconds`."""
        return bool(self._redis.set(keys.SWEEP, self._worker, nx=True, ex=seconds))

    def orphans_among(self, images: Sequence[ImageFile]) -> list[str]:
        """Keys of those `images` that are not a job's result and cannot become one any more.

        Images of an unknown job count only once the job's record must have expired: other services may use the store.
        """
        forgotten_after = self.limits.retention_seconds + self.limits.tombstone_seconds
        with self._redis.pipeline(transaction=False) as pipe:
            for image in images:
                pipe.hmget(keys.job(image.job_id), "state", "token", "fence", "result")
            found = pipe.execute()
        orphans = []
        for image, (state, token, fence, result) in zip(images, found, strict=True):
            if state is None:
                wanted = image.age < forgotten_after
            elif state == State.RUNNING:
                wanted = token_of({"token": token, "fence": fence}) == image.token
            else:
                wanted = bool(result) and json.loads(result)["key"] == image.key
            if not wanted:
                orphans.append(image.key)
        return orphans
