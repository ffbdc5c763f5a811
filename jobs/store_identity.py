"""Notices that the API and a worker use two different image stores: each store has an id in it.

The API writes the id of its store into Redis. A worker whose store has another id takes no jobs: their images would not
be found.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from jobs import keys
from jobs.store import ImageStore, StoreError

log = logging.getLogger(__name__)

_KEY = "health/store-id"
_READ_SECONDS = 30.0  # for which an id that was read is taken to be the store's
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


def store_id(store: ImageStore) -> str:
    """The id of a store, which is made for a new one.

    Raises:
        StoreError
    """
    return store.read_or_create(_KEY, uuid.uuid4().hex.encode()).decode(errors="replace")


class StoreAnnouncer:
    """Tells the workers which store the API uses."""

    def __init__(self, redis: AsyncRedis, store: ImageStore) -> None:
        self._redis = redis
        self._store = store
        self._own: str | None = None
        self._read_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Announce the store once Redis and the store answer."""
        self._task = asyncio.create_task(self._until_announced())

    async def stop(self) -> None:
        """End that."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def announce(self) -> None:
        """Write the store's id into Redis, unless it is there.

        Raises:
            RedisError, StoreError
        """
        if self._own is None or time.monotonic() - self._read_at > _READ_SECONDS:
            self._own = await asyncio.to_thread(store_id, self._store)
            self._read_at = time.monotonic()
        before = await self._redis.get(keys.STORE)
        if before == self._own:
            return
        await self._redis.set(keys.STORE, self._own)
        if before:
            log.warning("the API uses another image store than before; workers with that one take no more jobs")

    async def _until_announced(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self.announce()
            except (RedisError, StoreError, TimeoutError):  # requests and /readyz say it
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)


class StoreComparison:
    """Compares a worker's store with the API's."""

    def __init__(self, redis: Redis, store: ImageStore) -> None:
        self._redis = redis
        self._store = store
        self._own: str | None = None

    def __call__(self) -> str | None:
        """Why this is not the API's store; None when it is, or no API has said which one it uses.

        Raises:
            RedisError, StoreError
        """
        announced = self._redis.get(keys.STORE)
        if not announced or announced == self._own:
            return None
        self._own = store_id(self._store)  # the folder may have been emptied or mounted meanwhile
        if announced == self._own:
            return None
        return "its image store is not the API's: PANORAMAS_STORE_URL or PANORAMAS_DATA_DIR leads elsewhere"
