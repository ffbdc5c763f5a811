"""Limits the requests of an owner per minute, counted in Redis across all API processes."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from jobs import keys


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """What is left of the current window, and the seconds until the next one starts."""

    remaining: int
    resets_in: int
    exceeded: bool


class Quota:
    """A window starts with an owner's first request in it. `limit` 0 means no limit."""

    window_seconds = 60

    def __init__(self, redis: Redis, limit: int) -> None:
        self._redis = redis
        self.limit = limit

    async def count(self, owner: str) -> QuotaStatus:
        """Count one request.

        Raises:
            RedisError
        """
        key = keys.requests(owner)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(key, 0, ex=self.window_seconds, nx=True)
            pipe.incr(key)
            pipe.pttl(key)
            _, count, left = await pipe.execute()
        return QuotaStatus(max(self.limit - count, 0), max(-(-left // 1000), 1), count > self.limit)
