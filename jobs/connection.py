"""How asynchronous processes are connected to Redis."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

_CONNECTIONS = 64
_WAIT_SECONDS = 10.0


def connected(redis_url: str) -> Redis:
    """A client on a pool of its own. Redis need not be there yet.

    Where more is asked at once than there are connections, who comes last waits for one: redis-py's own pool would
    refuse them beyond a hundred.
    """
    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=_CONNECTIONS,
        timeout=_WAIT_SECONDS,
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 1),  # once, for a connection that a restart of Redis has closed
    )
    return Redis.from_pool(pool)
