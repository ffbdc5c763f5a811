"""The model process: loads models once and paints the jobs it is sent. It does not know Redis, and may be killed.

Started by `worker.child.ModelProcess` as `python -m worker.model_process FD`.
"""

from __future__ import annotations

import logging
import signal
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection

import torch

from engine.batching import is_out_of_memory
from engine.errors import Interrupted
from engine.model import Model
from engine.paint import paint
from engine.picture import provenance
from jobs import logs
from jobs.settings import Settings
from recipe.errors import PaintError
from recipe.fields import Recipe
from worker import messages
from worker.messages import (
    DeviceMemory,
    Done,
    Loaded,
    MessageError,
    Paint,
    Phase,
    Preview,
    Ready,
    Step,
    Stop,
    Unavailable,
)
from worker.model_faults import describe, failed, is_device_fault, without_folders
from worker.preview import Previews
from worker.warm import WarmModels

log = logging.getLogger("worker.model_process")


class _Unloadable(Exception):
    """This process cannot load the model; the text says why."""


def main() -> None:
    """Serve one pipe until it closes."""
    connection = Connection(int(sys.argv[1]))
    # Ctrl-C reaches every process of the terminal; the worker decides whether the running job may end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    settings = Settings()
    logs.setup(settings.log_level, settings.log_format)
    painter = Painter(connection, settings)
    try:
        painter.load_default()
        messages.send(connection, Ready())
        while True:
            command = messages.receive_command(connection)
            if isinstance(command, Paint):
                with logs.job_context(command.job_id):
                    painter.serve(command)
    except (EOFError, OSError):
        log.info("the worker closed the pipe; exiting")
    except MessageError as error:
        sys.exit(f"the worker sent: {error}")


class Painter:
    """Paints jobs, and reports every step to the worker at the other end of `connection`."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._default = next(iter(settings.catalog))
        self._models = WarmModels(settings.catalog, settings)
        self._previews = Previews()
        self._step = 0  # of the running job

    def load_default(self) -> None:
        """Load the default model, or report that it is unavailable; other models can still be painted.

        Raises:
            Exception: a fault of the device, which this process does not survive.
        """
        try:
            model, seconds = self._load(self._default)
        except _Unloadable as error:
            self._send(Unavailable(self._default, str(error)))
            return
        self._report_loaded(self._default, model, seconds)
        self._previews.learn(model)

    def serve(self, job: Paint) -> None:
        """Paint one job and report how it ended.

        Raises:
            MessageError, EOFError, OSError: when the pipe to the worker is broken.
        """
        self._step = 0
        try:
            done = self._paint(job)
        except Interrupted:
            self._send(messages.Interrupted())
        except _Unloadable as error:
            self._send(Unavailable(job.input["model"], str(error)))
        except (MessageError, EOFError, BrokenPipeError, ConnectionError):
            raise
        except Exception as error:
            report = failed(error, step=self._step)
            if report.reason in ("internal-error", "model-fault"):
                log.exception("a painting failed")  # the log has all of it; the user sees one line at most
            self._send(report)
        else:
            self._send(done)

    def _load(self, name: str) -> tuple[Model, float]:
        """The model, and the seconds that loading took.

        Raises:
            _Unloadable: when this process cannot load it.
        """
        try:
            return self._models.get(name)
        except PaintError as error:
            reason = without_folders(str(error))
        except Exception as error:
            if is_device_fault(error):
                raise
            if is_out_of_memory(error):
                reason = "it does not fit into the memory of this worker's device"
            else:
                log.exception("loading model %s failed", name)
                reason = describe(error)
        raise _Unloadable(reason)

    def _paint(self, job: Paint) -> Done:
        name = job.input["model"]
        if not self._models.is_warm(name):
            self._send(Phase("loading"))
        model, load_seconds = self._load(name)
        if load_seconds:
            self._report_loaded(name, model, load_seconds)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        params = Recipe.of(job.input)
        batches = self._models.batches(name, params)
        preview_of = self._previews.of(model)

        def on_step(step: int, total: int, latents: torch.Tensor) -> None:
            self._step = step
            self._send(Step(step, total))
            if step < total and (picture := preview_of(latents)):
                self._send(Preview(step, picture))
            if self._connection.poll(0) and isinstance(messages.receive_command(self._connection), Stop):
                raise Interrupted("stopped at a step")

        panorama = paint(
            model, params, batches=batches, on_step=on_step, on_phase=lambda phase: self._send(Phase(phase))
        )
        return Done(
            image=panorama.pixels.data.cast("B"),
            width=params.width,
            height=params.height,
            total_steps=self._step,
            timings={"load": load_seconds, **panorama.timings},
            notices=[asdict(notice) for notice in panorama.notices],
            revision=model.revision,
            memory=_memory(model),
            made_with=provenance(str(model.dtype).removeprefix("torch."), model.device.type),
        )

    def _report_loaded(self, name: str, model: Model, seconds: float) -> None:
        log.info("model %s loaded in %.1f s, in %s on %s", name, seconds, model.dtype, model.device)
        self._send(Loaded(name, seconds, _memory(model)))

    def _send(self, report: messages.Report) -> None:
        messages.send(self._connection, report)


def _memory(model: Model) -> DeviceMemory | None:
    """The memory of the model's GPU; None on a CPU."""
    device = model.device
    if device.type != "cuda":
        return None
    return DeviceMemory(
        device=torch.cuda.get_device_name(device),
        allocated=torch.cuda.memory_allocated(device),
        reserved=torch.cuda.memory_reserved(device),
        peak=torch.cuda.max_memory_allocated(device),
        total=torch.cuda.get_device_properties(device).total_memory,
    )


if __name__ == "__main__":
    main()
