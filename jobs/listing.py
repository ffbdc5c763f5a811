"""Jobs of an owner, newest first, page by page. An index answers; nothing is ever scanned."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from redis.asyncio import Redis

from jobs import keys
from jobs.record import JobRecord, State, read_record


class BadCursor(Exception):
    """The cursor was not given out by `JobListing.page`."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and the cursor behind them where there are more."""

    records: list[JobRecord]
    next_cursor: str | None


class JobListing:
    """Reads the indices that every transition keeps, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def page(
        self, owner: str, *, state: State | None = None, batch: str | None = None, cursor: str | None, limit: int
    ) -> Page:
        """At most `limit` jobs. A cursor is a place in the order of submission: new jobs never shift a later page.

        Raises:
            BadCursor
        """
        index = keys.index(owner, state) if batch is None else keys.batch_index(batch, state)
        below = f"({_decode(cursor)}" if cursor else "+inf"
        # One more than asked for tells whether there is a next page.
        found_ids = await self._redis.zrange(index, below, "-inf", desc=True, byscore=True, offset=0, num=limit + 1)
        ids = [str(job_id) for job_id in found_ids]
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids[:limit]:
                pipe.hgetall(keys.job(job_id))
            found = await pipe.execute()
        records = [read_record(job_id, fields) for job_id, fields in zip(ids, found, strict=False) if fields]
        more = len(ids) > limit and records
        return Page(records, _encode(records[-1].sequence) if more else None)


def _encode(sequence: int) -> str:
    return base64.urlsafe_b64encode(f"before:{sequence}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        name, _, sequence = text.partition(":")
        if name == "before" and sequence.isdecimal() and len(sequence) < 20:
            return int(sequence)
    except (binascii.Error, ValueError):
        pass
    raise BadCursor
