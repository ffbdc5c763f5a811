"""The Redis connection of asynchronous processes."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

_CONNECTIONS = 64
_WAIT_SECONDS = 10.0


def connected(redis_url: str) -> Redis:
    """A client with its own connection pool. Redis need not be reachable yet.

    When the pool is exhausted, callers wait instead of failing; redis-py's default pool fails beyond 100 connections.
    """
    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=_CONNECTIONS,
        timeout=_WAIT_SECONDS,
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 1),  # one retry, for a connection that a restart of Redis has closed
    )
    return Redis.from_pool(pool)
