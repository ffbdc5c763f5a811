"""The outbox of webhook calls: what a job's end adds to it, the queue of each target, and leases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from jobs import keys
from jobs.outbox import DueCall, Outbox
from testkit.jobs import Jobs
from testkit.processes import eventually

SLOW, FAST = "https://slow.example/hook", "https://fast.example/hook"


def outbox(jobs: Jobs, action: Callable[[Outbox], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Redis.from_url(jobs.server.url, decode_responses=True) as redis:
            return await action(Outbox(redis))

    return asyncio.run(run())


def take(jobs: Jobs, most: int = 100, lease: float = 60, of_owner: int = 50, **under_way: int) -> list[DueCall]:
    named = {f"|https://{name}.example": count for name, count in under_way.items()}
    limits = {"of_target": 4, "of_owner": of_owner}
    return outbox(jobs, lambda box: box.take(most, **limits, under_way=named, lease=lease))


def settle(jobs: Jobs, call: DueCall, outcome: Any, again_in: float = 0) -> bool:
    answer = {"status": 500, "error": "no", "seconds": 0.1, "again_in": again_in}
    return outbox(jobs, lambda box: box.settle(call, outcome, **answer))


def ended(jobs: Jobs, url: str, **line: Any) -> str:
    job_id = jobs.submit(webhook_url=url, **line)
    jobs.cancel(job_id)
    return job_id


def pending(jobs: Jobs) -> int:
    return int(jobs.redis.hget(keys.WEBHOOK_TALLY, "pending") or 0)


def test_a_target_has_a_few_calls_at_once_however_many_wait(jobs: Jobs) -> None:
    slow = [ended(jobs, SLOW) for _ in range(10)]
    fast = ended(jobs, FAST)
    assert pending(jobs) == 11
    assert [call.job.id for call in take(jobs)] == [*slow[:4], fast]
    assert take(jobs, slow=4) == []
    assert [call.job.id for call in take(jobs, slow=3)] == slow[4:5]
    assert [call.job.id for call in take(jobs, most=2)] == slow[5:7]


def test_the_same_host_is_another_target_for_another_owner(jobs: Jobs) -> None:
    for _ in range(5):
        ended(jobs, SLOW, owner="anna")
    other = ended(jobs, SLOW, owner="bert")
    taken = take(jobs)
    assert len(taken) == 5
    assert taken[-1].job.id == other


def test_an_owner_with_many_targets_leaves_room_for_the_others(jobs: Jobs) -> None:
    many = [ended(jobs, f"https://{number}.example/") for number in range(5)]
    other = ended(jobs, SLOW, owner="bert")
    assert [call.job.id for call in take(jobs, of_owner=2)] == [*many[:2], other]
    assert take(jobs, of_owner=2) == [], "the remaining targets are looked at again in a second"
    eventually(lambda: {call.job.id for call in take(jobs)} == set(many[2:]), 5)


def test_a_call_whose_taker_died_is_due_again_and_the_late_answer_changes_nothing(jobs: Jobs) -> None:
    job_id = ended(jobs, SLOW)
    (first,) = take(jobs, lease=0)
    (second,) = take(jobs)
    assert (second.job.id, second.attempt) == (job_id, 2)
    assert not settle(jobs, first, "failed")
    assert settle(jobs, second, "delivered")
    assert not settle(jobs, second, "failed")
    assert (take(jobs), pending(jobs)) == ([], 0)


def test_a_call_that_failed_waits_for_its_time(jobs: Jobs) -> None:
    ended(jobs, SLOW)
    (call,) = take(jobs)
    settle(jobs, call, "pending", again_in=60)
    assert take(jobs) == []
    assert pending(jobs) == 1
    settle(jobs, call, "delivered")
    assert pending(jobs) == 1, "it was settled once"


def test_a_call_is_settled_though_redis_is_out_of_memory(jobs: Jobs) -> None:
    ended(jobs, SLOW)
    (call,) = take(jobs)
    jobs.redis.config_set("maxmemory", 1)
    try:
        assert settle(jobs, call, "delivered")
    finally:
        jobs.redis.config_set("maxmemory", 0)
    assert pending(jobs) == 0


def test_a_job_that_expires_takes_its_call_along(jobs: Jobs) -> None:
    job_id = ended(jobs, SLOW)
    jobs.worker().expire(job_id)
    assert (take(jobs), pending(jobs)) == ([], 0)
    assert jobs.redis.exists(keys.OUTBOX_TARGETS) == 0


def test_a_job_without_a_webhook_leaves_nothing_behind(jobs: Jobs) -> None:
    jobs.cancel(jobs.submit())
    assert take(jobs) == []
    assert not jobs.redis.exists(keys.OUTBOX_TARGETS, keys.WEBHOOK_TALLY)
