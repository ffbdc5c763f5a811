"""The part of generated histories that concerns webhooks: senders that take calls, settle them, or die."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from redis import Redis

from jobs import keys
from jobs.outbox import Outbox
from jobs.record import State

ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELED)


@dataclass
class Seen:
    """The last observed state of a job."""

    state: State = State.QUEUED
    token: str = "0"
    result: dict[str, Any] | None = None
    cancel: bool = False
    webhook: str | None = None


class WebhookHistory(RuleBasedStateMachine):
    """What senders and users do with the calls of ended jobs."""

    redis: Redis
    loop: asyncio.AbstractEventLoop
    outbox: Outbox
    seen: dict[str, Seen]

    def wait(self, awaited: Any) -> Any:
        return self.loop.run_until_complete(awaited)

    def _any(self, *states: State) -> bool:
        return any(seen.state in states for seen in self.seen.values())

    @precondition(lambda self: self._any(*ENDED))
    @rule(outcome=st.sampled_from(["delivered", "pending", "failed", "disabled", None]), lease=st.sampled_from([0, 60]))
    def call_webhooks(self, outcome: Any, lease: int) -> None:
        """A sender takes two calls and settles them; without an outcome, it dies first."""
        for call in self.wait(self.outbox.take(2, of_target=1, of_owner=9, under_way={}, lease=lease)):
            assert call.job.state in ENDED
            if outcome:
                answer = {"status": 200, "error": None, "seconds": 0.1, "again_in": 0.0}
                assert self.wait(self.outbox.settle(call, outcome, **answer))

    @precondition(lambda self: self._any(*ENDED))
    @rule(number=st.integers(0, 20))
    def call_a_webhook_again(self, number: int) -> None:
        job_id, seen = list(self.seen.items())[number % len(self.seen)]
        assert self.wait(self.outbox.again(job_id)) == bool(seen.state in ENDED and seen.webhook)

    def every_webhook_is_called_from_the_end_until_it_is_settled(self) -> None:
        names = [str(key) for key in self.redis.scan_iter(f"{keys.OUTBOX}*")]
        queues = {name: self.redis.zrange(name, 0, -1, withscores=True) for name in names}
        due = sorted(str(job_id) for queue in queues.values() for job_id, _ in queue)
        calls = {job_id: self.redis.hget(keys.job(job_id), "webhook_state") for job_id in self.seen}
        assert due == sorted(job_id for job_id, state in calls.items() if state in ("pending", "sending"))
        assert int(self.redis.hget(keys.WEBHOOK_TALLY, "pending") or 0) == len(due)
        first = {name.removeprefix(keys.OUTBOX): queue[0][1] for name, queue in queues.items()}
        assert dict(self.redis.zrange(keys.OUTBOX_TARGETS, 0, -1, withscores=True)) == first
        for job_id, seen in self.seen.items():
            expected: tuple[str | None, ...] = (None,)
            if seen.webhook and seen.state in ENDED:
                expected = ("pending", "sending", "delivered", "failed", "disabled")
            elif seen.webhook and seen.state == State.EXPIRED:
                expected = ("expired",)
            assert calls[job_id] in expected, (seen, calls[job_id])
