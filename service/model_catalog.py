"""The models of the allow-list with what their configuration files say, read when the server starts.

A file on this disk is read at once, a hub repository's in a thread: no request waits for the network. What could not be
read is tried again, since the network may come back; what the engine cannot paint stays refused, with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping

from recipe.errors import ModelError
from recipe.facts import ModelFacts
from recipe.hub import HubUnreachable
from recipe.models import ModelSpec

log = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0
_PENDING = "its configuration is still being fetched"


class ModelPending(Exception):
    """A model whose configuration could not be read yet: the request may be right, and is to be sent again."""


class ModelCatalog(Mapping[str, ModelSpec]):
    """The allow-list by name; the first model is the default."""

    def __init__(self, specs: Mapping[str, ModelSpec]) -> None:
        self._specs = dict(specs)
        self._facts: dict[str, ModelFacts] = {}
        self._unavailable: dict[str, str] = {}
        self._pending: set[str] = set()  # those of the unavailable that may come
        self._task: asyncio.Task[None] | None = None
        for name, spec in self._specs.items():
            if spec.path:
                self._read(name)
            else:
                self._unavailable[name] = _PENDING
                self._pending.add(name)

    def __getitem__(self, name: str) -> ModelSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    @property
    def default(self) -> str:
        """The model of a request that names none."""
        return next(iter(self._specs))

    @property
    def unavailable(self) -> Mapping[str, str]:
        """Why a model cannot be asked for, by its name."""
        return self._unavailable

    def refusal(self, name: str) -> str | None:
        """Why a model cannot be asked for, or None where it can.

        Raises:
            ModelPending: while that is not known.
        """
        reason = self._unavailable.get(name)
        if name in self._pending:
            raise ModelPending(f"model {name}: {reason}")
        return reason

    def facts(self, name: str) -> ModelFacts | None:
        """What is known of a model; None while it is unavailable."""
        return self._facts.get(name)

    def start(self) -> None:
        """Read what is not on this disk, and again what could not be read."""
        if self._unavailable:
            self._task = asyncio.create_task(self._keep_reading())

    async def stop(self) -> None:
        """End the reading."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _keep_reading(self) -> None:
        while self._unavailable:
            for name in tuple(self._unavailable):
                await asyncio.to_thread(self._read, name)
            await asyncio.sleep(_RETRY_SECONDS)

    def _read(self, name: str) -> None:
        try:
            self._facts[name] = self._specs[name].facts()
        except ModelError as error:
            if self._unavailable.get(name) != str(error):
                log.error("model %s cannot be asked for: %s", name, error)
            self._unavailable[name] = str(error)
            if not isinstance(error, HubUnreachable):
                self._pending.discard(name)
        else:
            self._pending.discard(name)
            self._unavailable.pop(name, None)
