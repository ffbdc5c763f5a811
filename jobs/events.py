"""The events of a job: one short Redis stream per job, written by the scripts that change its record.

An event says that something changed, and not everything that it changed to: a reader then reads the record. So what it
shows is up to date, and no record is stored twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from jobs import keys

BEGINNING = "0-0"


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is job (a new state), progress or preview. `id` is the stream's: milliseconds, a dash, a counter."""

    job_id: str
    id: str
    kind: str
    fields: dict[str, str]

    @property
    def position(self) -> tuple[int, int]:
        return position(self.id)


def position(event_id: str) -> tuple[int, int]:
    """The id as two integers that can be compared.

    Raises:
        ValueError: when the text is not the id of an event.
    """
    milliseconds, dash, counter = event_id.partition("-")
    if not (dash and milliseconds.isdecimal() and counter.isdecimal() and len(event_id) <= 40):
        raise ValueError("not the id of an event")
    return int(milliseconds), int(counter)


class EventLog:
    """Reads the streams, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def last_id(self, job_id: str) -> str:
        """The id of the latest event; `BEGINNING` when there is none."""
        latest: Any = await self._redis.xrevrange(keys.events(job_id), count=1)
        return latest[0][0] if latest else BEGINNING

    async def after(self, job_id: str, event_id: str) -> list[Event]:
        """The events after this one, as far as they are kept."""
        entries: Any = await self._redis.xrange(keys.events(job_id), min=f"({event_id}")
        return [_event(job_id, entry) for entry in entries]

    async def read(self, cursors: Mapping[str, str], wait_ms: int) -> list[Event]:
        """The events after each job's cursor, waiting at most `wait_ms` for the first one."""
        streams: Any = {keys.events(job_id): cursor for job_id, cursor in cursors.items()}
        answer: Any = await self._redis.xread(streams, block=wait_ms)
        found = answer.items() if isinstance(answer, dict) else answer  # RESP3 and RESP2
        return [_event(name.removeprefix(keys.EVENTS), entry) for name, entries in found for entry in entries]

    async def preview(self, job_id: str, step: int | None = None) -> str | None:
        """The latest preview of the unfinished canvas, or that of one step, in base64; None when there is none."""
        latest: Any = step if step is not None else await self._redis.get(keys.preview(job_id, "latest"))
        image: Any = None if latest is None else await self._redis.get(keys.preview(job_id, latest))
        return image


def _event(job_id: str, entry: Any) -> Event:
    event_id, fields = entry
    return Event(job_id, event_id, fields["kind"], fields)
