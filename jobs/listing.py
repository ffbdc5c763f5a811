"""An owner's jobs, newest first, page by page. Pages are read from an index, without scanning."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from jobs import keys
from jobs.record import JobRecord, State, read_record

CURSOR_PATTERN = "^[0-9a-f]{1,13}$"  # a sequence number below 2**53, so that it is exact as a score


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and the cursor of the next page when there is one."""

    records: list[JobRecord]
    next_cursor: str | None


class JobListing:
    """Reads the indices that every transition updates, on an asynchronous Redis client with `decode_responses=True`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def page(
        self, owner: str, *, state: State | None = None, batch: str | None = None, cursor: str | None, limit: int
    ) -> Page:
        """At most `limit` jobs. A cursor is a position in the order of submission: new jobs never shift a page."""
        index = keys.index(owner, state) if batch is None else keys.batch_index(batch, state)
        below = f"({int(cursor, 16)}" if cursor else "+inf"
        # Read one more than asked for, to know whether there is a next page.
        found_ids = await self._redis.zrange(index, below, "-inf", desc=True, byscore=True, offset=0, num=limit + 1)
        ids = [str(job_id) for job_id in found_ids]
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids[:limit]:
                pipe.hgetall(keys.job(job_id))
            found = await pipe.execute()
        records = [read_record(job_id, fields) for job_id, fields in zip(ids, found, strict=False) if fields]
        more = len(ids) > limit and records
        return Page(records, f"{records[-1].sequence:x}" if more else None)
