"""Checks the image store for `/readyz`, which anybody may call as often as they like."""

from __future__ import annotations

import asyncio
import time

from jobs.store import ImageStore, StoreError

_SECONDS = 2.0  # for which a check counts


class StoreCheck:
    """One check at a time, whose outcome counts for two seconds, whoever asks and however often."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._latest: asyncio.Task[StoreError | None] | None = None
        self._ended_at = 0.0

    async def check(self) -> None:
        """Check that the store can be written.

        Raises:
            StoreError
        """
        latest = self._latest
        if latest is None or (latest.done() and time.monotonic() - self._ended_at > _SECONDS):
            latest = self._latest = asyncio.create_task(self._check())
        if error := await asyncio.shield(latest):  # a client that leaves ends nobody's check
            raise error

    async def _check(self) -> StoreError | None:
        try:
            await self._store.check()
        except StoreError as error:
            return error
        finally:
            self._ended_at = time.monotonic()
        return None
