"""Takes this worker out of service while its device fails, so that it does not use up the attempts of job after job.

After some attempts in a row that failed by this worker's fault, it paints a small picture of its own before it takes
another job. While that fails, it stays out of service, and tries again after longer and longer pauses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from jobs.abilities import Abilities
from jobs.faults import Fault
from recipe.errors import ModelError, RecipeError
from recipe.models import ModelSpec
from recipe.request import resolve
from worker.child import ModelProcess, ModelProcessDied
from worker.messages import Done, Failed, Paint, Phase, Unavailable
from worker.outcomes import Timeouts
from worker.shutdown import Shutdown

log = logging.getLogger(__name__)

_STEPS = 4
_POLL_SECONDS = 0.25
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0


class Probation:
    """Counts the attempts in a row that failed by this worker's fault. It belongs to the thread that runs jobs.

    Args:
        wait_until_ready: waits for a model process with its model loaded; False when a shutdown is requested first.
        faults_in_a_row: how many are too many; 0 is never.
    """

    def __init__(
        self,
        abilities: Abilities,
        process: ModelProcess,
        catalog: Mapping[str, ModelSpec],
        timeouts: Timeouts,
        shutdown: Shutdown,
        *,
        wait_until_ready: Callable[[], bool],
        faults_in_a_row: int,
    ) -> None:
        self._abilities = abilities
        self._process = process
        self._catalog = catalog
        self._timeouts = timeouts
        self._shutdown = shutdown
        self._wait_until_ready = wait_until_ready
        self._limit = faults_in_a_row
        self._faults: list[Fault] = []
        self._pause = 0.0

    def failed(self, why: Fault) -> None:
        """An attempt failed. Only a fault of the worker's counts."""
        if why.blame == "worker":
            self._faults.append(why)

    def painted(self) -> None:
        """An attempt painted its picture: the device works."""
        self._faults.clear()
        self._pause = 0.0

    def serve(self) -> bool:
        """Return once this worker may take a job: when its model is loaded, after too many faults also only when it has
        painted a picture of its own. False on a shutdown."""
        if not self._wait_until_ready():
            return False
        if not self._limit or len(self._faults) < self._limit:
            self._abilities.put_back()
            return True
        reason = f"{len(self._faults)} attempts in a row failed: {self._faults[-1].detail}"
        self._abilities.take_out(reason)
        log.error("this worker takes no jobs until it has painted a picture of its own: %s", reason)
        while not self._shutdown.requested:
            self._shutdown.pause(self._pause)
            # It grows until a job is painted: a device may fail under jobs only, and not under a small picture.
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            if not self._wait_until_ready():
                break
            if fault := self._paint_own():
                self._process.kill()
                log.error("this worker still takes no jobs: %s; trying again in %.0f s", fault, self._pause)
                continue
            self._faults.clear()
            self._abilities.put_back()
            log.info("this worker has painted a picture of its own, and takes jobs again")
            return True
        return False

    def _paint_own(self) -> str | None:
        """Paint a small picture. Returns why that failed; None also when no model can be painted anyway."""
        settings = self._own_picture()
        if settings is None:
            return None
        try:
            self._process.send(Paint("probe", settings))
            longest, since = self._timeouts.step, time.monotonic()
            while not self._shutdown.requested:
                match self._process.next_report(_POLL_SECONDS):
                    case None if time.monotonic() - since > longest:
                        return f"no step within {longest:g} s"
                    case None:
                        continue
                    case Done() | Unavailable():
                        return None
                    case Failed(_, detail):
                        return detail
                    case report:
                        longest = self._timeouts.load if report == Phase("loading") else self._timeouts.step
                        since = time.monotonic()
        except ModelProcessDied as error:
            return error.reason
        return "the worker was stopped"

    def _own_picture(self) -> dict[str, Any] | None:
        """A job's input for one view of the first model that can be painted, with few steps where the model allows."""
        for name in self._abilities.loadable:
            spec = self._catalog[name]
            for steps in ({"num_inference_steps": _STEPS}, {}):
                try:
                    side = spec.facts().window_px
                    request = {"prompt": "a landscape", "width": side, "height": side, "seed": 0, **steps}
                    return {**asdict(resolve(request, spec)), "model": name}
                except (RecipeError, ModelError):
                    continue
        return None
