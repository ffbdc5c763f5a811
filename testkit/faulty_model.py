"""`python -m testkit.faulty_model FD`: the real model process, with a fault if the prompt names one.

Most faults come in the second step, those of FIRST_CALL_FAULTS before the first.

The prompt `fault NAME` causes the fault in every attempt, and `fault NAME once` only in the first: a file in the folder
FAULT_FOLDER records that it happened.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from engine.model import Model
from engine.paint import paint
from worker import model_process

_poisoned = False  # a sticky CUDA error persists until its process ends


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _abort() -> None:
    os.abort()


def _hang() -> None:
    time.sleep(3600)


def _out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _sticky() -> None:
    global _poisoned  # noqa: PLW0603 - the CUDA context is global too
    _poisoned = True


def _wrong_shape() -> None:
    torch.zeros(2, 3) @ torch.zeros(2, 3)


def _missing_key() -> None:
    raise KeyError("/srv/models/private/time_ids")


# In the first call of the network, which is before the first step is reported.
FIRST_CALL_FAULTS = {"shape": _wrong_shape, "key": _missing_key}
FAULTS = {"kill": _kill, "abort": _abort, "hang": _hang, "memory": _out_of_memory, "sticky": _sticky}


def _faulty_paint(model: Model, recipe: Any, *, on_step: Any, **options: Any) -> Any:
    fault, _, how_often = recipe.prompt.removeprefix("fault ").partition(" ")
    wanted = fault in FAULTS and (how_often != "once" or _first_time(fault))

    if fault in FIRST_CALL_FAULTS:
        FIRST_CALL_FAULTS[fault]()

    def faulty_step(step: int, total: int, latents: torch.Tensor) -> None:
        if wanted and step == 2:
            FAULTS[fault]()
        if _poisoned:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors ...")
        on_step(step, total, latents)

    return paint(model, recipe, on_step=faulty_step, **options)


def _first_time(fault: str) -> bool:
    marker = Path(os.environ["FAULT_FOLDER"]) / fault
    if marker.exists():
        return False
    marker.touch()
    return True


if __name__ == "__main__":
    model_process.paint = _faulty_paint  # type: ignore[attr-defined, assignment]
    model_process.main()
