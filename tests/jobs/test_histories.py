"""Generated histories: the invariants hold, whatever users, workers and Redis do in whatever order.

Hypothesis generates the histories, and shrinks one that breaks an invariant. Users and workers are simulated here on a
real server, thousands of steps in seconds; `test_process_histories.py` does the same with real worker processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, invariant, precondition, rule
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError

from jobs import keys
from jobs.board import JobBoard, QueueFull
from jobs.claims import JobClaims
from jobs.envelope import WINDOW
from jobs.limits import JobLimits
from jobs.outbox import Outbox
from jobs.record import JobRecord, State, read_record, token_of
from testkit.jobs import FAULT, RESULT
from testkit.processes import RedisServer
from tests.jobs.webhook_history import Seen, WebhookHistory

TERMS = JobLimits(lease_seconds=10, dispatch_grace_seconds=5, retention_seconds=1000, max_attempts=2)
MOST_QUEUED = 5
WORKERS = 3
NEXT = {
    State.QUEUED: {State.RUNNING, State.CANCELED},
    State.RUNNING: {State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELED},
    State.SUCCEEDED: {State.EXPIRED},
    State.FAILED: {State.EXPIRED},
    State.CANCELED: {State.EXPIRED},
    State.EXPIRED: set(),
}

# The scripts use Redis's clock. To let time pass, this moves every time that the queue stores into the past.
_SHIFT = """#!lua flags=allow-oom
for _, key in ipairs(KEYS) do
  for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, ARGV[1], id) end
end
"""


def _number(attempt: JobRecord | Seen) -> int:
    """How often the job had been claimed, which is the first part of a token."""
    return int(attempt.token.partition("-")[0])


@dataclass
class Worker:
    """A worker that may pause for any time between two calls, and then continues from what it knew before."""

    claims: JobClaims
    popped: str | None = None
    attempt: JobRecord | None = None


class Transitions(WebhookHistory):
    """Users, workers, time and Redis, step by step."""

    server: ClassVar[RedisServer]
    jobs: Bundle[str] = Bundle("jobs")
    workers = st.integers(0, WORKERS - 1)

    def __init__(self) -> None:
        super().__init__()
        self.redis = self.server.client()
        self.redis.config_set("maxmemory", 0)
        self.redis.flushall()
        self.loop = asyncio.new_event_loop()
        self.async_redis = AsyncRedis.from_url(self.server.url, decode_responses=True, retry=Retry(NoBackoff(), 1))
        self.outbox = Outbox(self.async_redis)
        self.board = JobBoard(self.async_redis, retention_seconds=1000, max_queued=MOST_QUEUED)
        self.crew = [Worker(JobClaims(self.redis, f"w{n}", TERMS)) for n in range(WORKERS)]
        self.seen: dict[str, Seen] = {}
        self.full = False
        self.restarts = 0

    def _idle(self) -> list[Worker]:
        return [worker for worker in self.crew if not worker.popped and not worker.attempt]

    def _about_to_claim(self) -> list[Worker]:
        return [worker for worker in self.crew if worker.popped]

    def _busy(self) -> list[Worker]:
        return [worker for worker in self.crew if worker.attempt]

    def _one(self, workers: list[Worker], number: int) -> Worker:
        return workers[number % len(workers)]

    @contextlib.contextmanager
    def _writing(self, number: int) -> Iterator[tuple[JobClaims, JobRecord]]:
        """A worker that is about to write. If its attempt no longer owns the job, nothing may change."""
        worker = self._one(self._busy(), number)
        assert worker.attempt
        before = self.redis.hgetall(keys.job(worker.attempt.id))
        yield worker.claims, worker.attempt
        if before["state"] != State.RUNNING or token_of(before) != worker.attempt.token:
            assert self.redis.hgetall(keys.job(worker.attempt.id)) == before, "a late attempt changed the job"

    @rule(
        target=jobs,
        owner=st.sampled_from("ab"),
        priority=st.sampled_from(["interactive", "batch"]),
        webhook=st.sampled_from([None, "https://one.example/x", "https://two.example/y"]),
    )
    def submit(self, owner: str, priority: Any, webhook: str | None) -> str:
        job_id = uuid.uuid4().hex
        queued = sum(seen.state == State.QUEUED for seen in self.seen.values())
        refused = (OutOfMemoryError,) if self.full else (QueueFull,) if queued >= MOST_QUEUED else ()
        with pytest.raises(refused) if refused else contextlib.nullcontext():
            wanted = {"owner": owner, "priority": priority, "webhook_url": webhook}
            self.wait(self.board.submit(job_id, {"prompt": "a"}, {}, **wanted))
        if refused:
            assert self.wait(self.board.get(job_id)) is None, "nothing was accepted"
        else:
            self.seen[job_id] = Seen(webhook=webhook)
        return job_id

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        known = self.wait(self.board.cancel(job_id))
        assert known == (job_id in self.seen)
        if known and self.seen[job_id].state in (State.QUEUED, State.RUNNING):
            self.seen[job_id].cancel = True

    @precondition(lambda self: self._busy())
    @rule(number=workers)
    def cancel_a_running_job(self, number: int) -> None:
        attempt = self._one(self._busy(), number).attempt
        assert attempt
        self.cancel(attempt.id)

    @precondition(lambda self: self._any(State.SUCCEEDED, State.FAILED, State.CANCELED))
    @rule(job_id=jobs)
    def delete(self, job_id: str) -> None:
        self.wait(self.board.delete(job_id))

    @precondition(lambda self: self._idle() and not self.full)  # RQ's own command fails when Redis is out of memory
    @rule(number=workers, claim=st.sampled_from(["at once", "at once, the answer is lost", "later"]))
    def pop(self, number: int, claim: str) -> None:
        worker = self._one(self._idle(), number)
        popped = self.redis.lmove(keys.RQ_LIST, keys.RQ_INTERMEDIATE, "LEFT", "RIGHT")
        worker.popped = str(popped) if popped else None
        if popped and claim != "later":
            self._claim(worker, answer_is_lost=claim != "at once")

    @precondition(lambda self: len(self._idle()) < WORKERS and self._idle() and not self.full)
    @rule(number=workers, seconds=st.sampled_from([6, 11]))
    def take_over(self, number: int, seconds: int) -> None:
        """All leases expire, or only popped jobs have waited too long; then idle workers take what is put back."""
        self.reconcile(number, seconds)
        for _ in self._idle():
            self.invariants_hold()
            self.pop(number, "at once")

    @precondition(lambda self: self._about_to_claim())
    @rule(number=workers)
    def claim(self, number: int) -> None:
        self._claim(self._one(self._about_to_claim(), number), answer_is_lost=False)

    def _claim(self, worker: Worker, *, answer_is_lost: bool) -> None:
        job_id, worker.popped = str(worker.popped), None
        nonce = uuid.uuid4().hex
        worker.attempt = worker.claims.claim(job_id, nonce=nonce)
        if worker.attempt:
            assert self.seen[job_id].state == State.QUEUED
            assert _number(worker.attempt) == _number(self.seen[job_id]) + 1
            if answer_is_lost:
                assert worker.claims.claim(job_id, nonce=nonce) == worker.attempt

    @precondition(lambda self: self._busy())
    @rule(number=workers, renew=st.booleans())
    def step(self, number: int, renew: bool) -> None:
        with self._writing(number) as (claims, attempt):
            if renew:
                claims.renew(attempt.id, attempt.token)
            else:
                claims.progress(attempt.id, attempt.token, step=1000 * _number(attempt))

    @precondition(lambda self: self._busy())
    @rule(number=workers, state=st.sampled_from([State.SUCCEEDED, State.FAILED]))
    def finish(self, number: int, state: State) -> None:
        with self._writing(number) as (claims, attempt):
            result = {**RESULT, "key": f"{attempt.token}.png"}
            fields = {"result": result} if state == State.SUCCEEDED else {"error": {}}
            first = claims.finish(attempt.id, attempt.token, state, **fields)
            assert claims.finish(attempt.id, attempt.token, state, **fields) == first, (
                "a repeated call gives the same answer"
            )
        self._one(self._busy(), number).attempt = None

    @precondition(lambda self: self._busy())
    @rule(number=workers, give_back=st.booleans())
    def put_back(self, number: int, give_back: bool) -> None:
        with self._writing(number) as (claims, attempt):
            claims.release(attempt.id, attempt.token, fault=FAULT, give_back=give_back)
        self._one(self._busy(), number).attempt = None

    @rule(number=workers)
    def kill(self, number: int) -> None:
        worker = self.crew[number]
        worker.popped = worker.attempt = None
        worker.claims = JobClaims(self.redis, uuid.uuid4().hex, TERMS)  # a restarted worker has another name

    @precondition(lambda self: self._any(State.QUEUED, State.RUNNING))
    @rule(number=workers, seconds=st.sampled_from([0, 6, 6, 11]))
    def reconcile(self, number: int, seconds: int) -> None:
        """Let time pass: longer than the time to a claim may be, or than a lease."""
        self._pass(seconds)
        self.crew[number].claims.reconcile()

    @precondition(lambda self: self._any(State.SUCCEEDED, State.FAILED, State.CANCELED))
    @rule(number=workers, seconds=st.sampled_from([0, 2000]))
    def sweep(self, number: int, seconds: int) -> None:
        self._pass(seconds)
        for record in self.crew[number].claims.due_for_expiry():
            self.crew[number].claims.expire(record.id)

    def _pass(self, seconds: int) -> None:
        self.redis.eval(_SHIFT, 3, keys.RUNNING, keys.DISPATCHED, keys.FINISHED, -seconds * 1000)

    @rule()
    def fill_or_free_redis(self) -> None:
        self.full = not self.full
        self.redis.config_set("maxmemory", 1 if self.full else 0)

    @precondition(lambda self: self.restarts < 1)
    @rule()
    def kill_redis(self) -> None:
        self.restarts += 1
        self.server.kill()
        self.server.start()
        self.full = False

    @invariant()
    def invariants_hold(self) -> None:
        self.no_state_goes_backwards()
        self.every_job_is_where_its_state_says()
        self.every_webhook_is_called_from_the_end_until_it_is_settled()

    def no_state_goes_backwards(self) -> None:
        for job_id, seen in self.seen.items():
            record = read_record(job_id, self.redis.hgetall(keys.job(job_id)))  # type: ignore[arg-type]
            assert record.state == seen.state or record.state in NEXT[seen.state], f"{record.state} after {seen.state}"
            assert _number(record) >= _number(seen)
            assert 0 <= record.attempt <= TERMS.max_attempts
            if record.state in (State.SUCCEEDED, State.FAILED):
                assert not seen.cancel, "an acknowledged cancel was overruled"
            assert (record.result is not None) == (record.state == State.SUCCEEDED)
            if seen.state == record.state == State.SUCCEEDED:
                assert record.result == seen.result, "a second commit"
            seen.state, seen.token, seen.result = record.state, record.token, record.result

    def every_job_is_where_its_state_says(self) -> None:
        where: dict[str, list[str]] = {job_id: [] for job_id in self.seen}
        for place in (keys.WAITING, keys.WAITING_BATCH, keys.DISPATCHED, keys.RUNNING, keys.FINISHED):
            for job_id in self.redis.zrange(place, 0, -1):
                where[str(job_id)].append(place)
        queued = [[keys.WAITING], [keys.WAITING_BATCH], [keys.DISPATCHED]]
        expected = {State.QUEUED: queued, State.RUNNING: [[keys.RUNNING]], State.EXPIRED: [[]]}
        for job_id, places in where.items():
            assert places in expected.get(self.seen[job_id].state, [[keys.FINISHED]]), (self.seen[job_id], places)
        listed = self.redis.lrange(keys.RQ_LIST, 0, -1)
        assert len(listed) == len(set(listed)) <= WINDOW + WORKERS
        assert all(where[job_id] == [keys.DISPATCHED] for job_id in listed), "RQ has dispatched jobs only"
        counts = Counter(seen.state for seen in self.seen.values() if seen.state != State.EXPIRED)
        indexed = {state: sum(self.redis.zcard(keys.index(owner, state)) for owner in "ab") for state in State}
        assert indexed == {state: counts[state] for state in State}

    def teardown(self) -> None:
        try:
            self.redis.config_set("maxmemory", 0)
            self._places_are_distinct()
            self._every_job_ends()
        finally:
            self.loop.run_until_complete(self.async_redis.aclose())
            self.loop.close()
            self.redis.close()

    def _places_are_distinct(self) -> None:
        queued = [job_id for job_id, seen in self.seen.items() if seen.state == State.QUEUED]
        places = [self.wait(self.board.get(job_id)).queue_position for job_id in queued]
        assert sorted(places) == list(range(len(queued)))

    def _every_job_ends(self) -> None:
        """All workers are gone. Time passes, and a new one starts."""
        worker = JobClaims(self.redis, "the last", replace(TERMS, dispatch_grace_seconds=0))
        self._pass(11)
        for _ in range(len(self.seen) * 2 + 2):
            worker.reconcile()
            while popped := self.redis.lmove(keys.RQ_LIST, keys.RQ_INTERMEDIATE, "LEFT", "RIGHT"):
                if record := worker.claim(str(popped)):
                    self.no_state_goes_backwards()
                    worker.finish(record.id, record.token, State.SUCCEEDED, result=RESULT)
            self.no_state_goes_backwards()
        self.invariants_hold()
        assert all(seen.state.terminal for seen in self.seen.values()), self.seen
        assert self.redis.llen(keys.RQ_INTERMEDIATE) == 0
        assert not list(self.redis.scan_iter(f"{keys.RQ_JOB}*")), "nothing of a job is left in RQ"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("examples", "always_the_same"), [(50, True), pytest.param(500, False, marks=pytest.mark.chaos)]
)
def test_no_history_of_transitions_breaks_an_invariant(
    redis_server: RedisServer, examples: int, always_the_same: bool
) -> None:
    Transitions.server = redis_server
    run = Transitions.TestCase
    run.settings = settings(
        max_examples=examples,
        derandomize=always_the_same,
        database=None,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run().runTest()
