"""Metrics of the whole service, kept in Redis: every worker adds to them, and any API process can expose them.

All histograms are fields of one hash: `{name}|{label}|{upper bound}` counts the observations in a bucket, and
`{name}|{label}|sum` adds up their seconds. So an observation is two increments.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.client import Pipeline

from jobs import keys
from jobs.abilities import kept_pictures, out_of_service
from jobs.record import State

# Upper bounds of each histogram's buckets in seconds; larger observations go into the bucket `inf`.
BUCKETS: dict[str, tuple[float, ...]] = {
    "step": (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    "phase": (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0),
    "load": (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0),
    "webhook": (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
}


def observe(pipe: Pipeline | AsyncPipeline, name: str, label: str, seconds: float) -> None:
    """Add one observation to a histogram, on a pipeline that the caller executes."""
    bounds = BUCKETS[name]
    at = bisect.bisect_left(bounds, seconds)
    bucket = f"{bounds[at]:g}" if at < len(bounds) else "inf"
    pipe.hincrby(keys.METRICS, f"{name}|{label}|{bucket}", 1)
    pipe.hincrbyfloat(keys.METRICS, f"{name}|{label}|sum", round(seconds, 6))


def record_memory(redis: Redis, worker: str, memory: Mapping[str, Any]) -> None:
    """Store a worker's GPU memory, and delete the entries of workers that are gone."""
    living = {str(name) for name in redis.zrange(keys.WORKERS, 0, -1)}
    gone = [str(name) for name in redis.hkeys(keys.MEMORY) if str(name) not in living]
    with redis.pipeline(transaction=False) as pipe:
        pipe.hset(keys.MEMORY, worker, json.dumps(memory))
        if gone:
            pipe.hdel(keys.MEMORY, *gone)
        pipe.execute()


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts by upper bound, the last of which is infinity, and the sum in seconds."""

    name: str
    label: str
    cumulative: list[tuple[str, int]]
    sum: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All metrics at one moment. `memory` is by worker, in bytes. `calls` are webhook calls by outcome, and `pending`
    ones; the most overdue of these is late by `calls_late_seconds`."""

    waiting: dict[str, int]
    oldest_seconds: float
    jobs: dict[State, int]
    submitted: int
    ended: dict[str, int]
    workers: int
    workers_out: int
    pictures_kept: int
    histograms: list[Histogram]
    memory: dict[str, dict[str, Any]]
    calls: dict[str, int]
    calls_late_seconds: float


async def read_figures(redis: AsyncRedis, owners: Iterable[str]) -> Figures:
    """Read them from Redis. Jobs are counted by state for `owners` only; all other values cover every owner.

    Raises:
        RedisError
    """
    listed, states = sorted(set(owners)), [state for state in State if state != State.EXPIRED]
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zcard(keys.WAITING)
        pipe.zcard(keys.WAITING_BATCH)
        pipe.zrange(keys.DISPATCHED, 0, -1)
        pipe.get(keys.SEQUENCE)
        pipe.hgetall(keys.TALLY)
        pipe.zrange(keys.WORKERS, 0, -1, withscores=True)
        pipe.hgetall(keys.METRICS)
        pipe.hgetall(keys.MEMORY)
        pipe.hgetall(keys.ABILITIES)
        pipe.hgetall(keys.WEBHOOK_TALLY)
        pipe.zrange(keys.OUTBOX_TARGETS, 0, 0, withscores=True)
        for owner in listed:
            pipe.zrange(keys.index(owner, State.QUEUED), 0, 0)
            for state in states:
                pipe.zcard(keys.index(owner, state))
        (
            time,
            interactive,
            batch,
            dispatched,
            sequence,
            tally,
            heartbeats,
            fields,
            memory,
            entries,
            *rest,
        ) = await pipe.execute()
    calls, due, *rest = rest
    now = time[0] * 1000 + time[1] // 1000
    width = 1 + len(states)
    by_owner = [rest[start : start + width] for start in range(0, len(rest), width)]
    oldest = [job_id for first, *_ in by_owner for job_id in first]
    async with redis.pipeline(transaction=False) as pipe:
        for job_id in (*dispatched, *oldest):
            pipe.hmget(keys.job(job_id), "priority", "created_at")
        looked_up = await pipe.execute()
    waiting = {"interactive": interactive, "batch": batch}
    for priority, _ in looked_up[: len(dispatched)]:
        waiting["batch" if priority == "batch" else "interactive"] += 1
    created = [int(at) for _, at in looked_up if at]
    living = {name: entries.get(name) for name, score in heartbeats if score > now - keys.WORKER_SILENCE_MS}
    return Figures(
        waiting=waiting,
        oldest_seconds=max((now - min(created)) / 1000, 0.0) if created else 0.0,
        jobs={state: sum(counts[1 + at] for counts in by_owner) for at, state in enumerate(states)},
        submitted=int(sequence or 0),
        ended={state: int(tally.get(state, 0)) for state in (State.SUCCEEDED, State.FAILED, State.CANCELED)},
        workers=len(living),
        workers_out=len(out_of_service(living)),
        pictures_kept=kept_pictures(living),
        histograms=_histograms(fields),
        calls={outcome: int(count) for outcome, count in calls.items()},
        calls_late_seconds=max((now - due[0][1]) / 1000, 0.0) if due else 0.0,
        memory={name: json.loads(text) for name, text in memory.items() if name in living},
    )


def _histograms(fields: Mapping[str, str]) -> list[Histogram]:
    found = []
    for name, label in sorted({tuple(field.split("|")[:2]) for field in fields}):
        count, cumulative = 0, []
        for bound in [*(f"{bound:g}" for bound in BUCKETS.get(name, ())), "inf"]:
            count += int(fields.get(f"{name}|{label}|{bound}", 0))
            cumulative.append((bound, count))
        found.append(Histogram(name, label, cumulative, float(fields.get(f"{name}|{label}|sum", 0))))
    return found
