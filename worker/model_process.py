"""The warm model process: loads once, then paints what it is told. It knows nothing of Redis, and may be killed.

Started by `worker.child.ModelProcess` as `python -m worker.model_process FD`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import torch

from engine.batching import is_out_of_memory
from engine.errors import BadPicture, Interrupted
from engine.model import Model
from engine.paint import paint
from jobs import logs
from jobs.settings import Settings
from recipe.errors import ModelError, PaintError, RecipeError
from recipe.fields import Recipe
from worker.messages import receive, send
from worker.preview import Previews
from worker.warm import WarmModels

log = logging.getLogger("worker.model_process")

# Errors of the request or of the model's own arithmetic: another attempt would end the same way.
_FINAL = {RecipeError: "cannot-be-painted", ModelError: "model-unavailable", BadPicture: "bad-picture"}


def main() -> None:
    """Serve one pipe until it closes."""
    connection = Connection(int(sys.argv[1]))
    # Ctrl-C goes to the whole terminal group; whether the running job may end is the worker's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    settings = Settings()
    logs.setup(settings.log_level, settings.log_format)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(settings.data_dir.resolve() / "compiled"))
    painter = Painter(connection, settings)
    try:
        painter.load_default()
        send(connection, "ready")
        while True:
            message = receive(connection)
            if message["kind"] == "paint":
                with logs.about(message.get("job", "")):
                    painter.serve(message["input"])
    except (EOFError, OSError):
        log.info("the worker closed the pipe; leaving")


class Painter:
    """Paints jobs, and tells the worker at the other end of `connection` of every step."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._default = next(iter(settings.catalog))
        self._models = WarmModels(settings.catalog, settings)
        self._previews = Previews()

    def load_default(self) -> None:
        """Make the default model ready. Where that fails its jobs will, and others can be painted."""
        try:
            model, seconds = self._models.get(self._default)
        except ModelError as error:
            log.error("the default model is not available: %s", error)
            return
        self._tell_loaded(self._default, model, seconds)
        self._previews.learn(model)

    def serve(self, job_input: dict[str, Any]) -> None:
        """Paint one job and say how it ended. Only a broken pipe leaves this function as an exception."""
        try:
            pixels, summary = self._paint(job_input)
        except Interrupted:
            send(self._connection, "interrupted")
        except PaintError as error:
            self._tell_failed(_FINAL.get(type(error), "engine-error"), str(error), final=True)
        except torch.AcceleratorError as error:  # what every later call of this process would meet as well
            self._tell_failed("device-error", str(error).splitlines()[0])
        except (EOFError, BrokenPipeError, ConnectionError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                self._tell_failed("out-of-memory", str(error))
                return
            log.exception("a painting failed")  # a fault of ours or of the device: told in full here, in brief there
            self._tell_failed("internal-error", f"{type(error).__name__} in the model")
        else:
            send(self._connection, "done", **summary)
            self._connection.send_bytes(pixels)

    def _paint(self, job_input: dict[str, Any]) -> tuple[memoryview, dict[str, Any]]:
        name = job_input["model"]
        if not self._models.is_warm(name):
            send(self._connection, "phase", phase="loading")
        model, load_seconds = self._models.get(name)
        if load_seconds:
            self._tell_loaded(name, model, load_seconds)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        params = Recipe.of(job_input)
        batches = self._models.batches(name, params)
        preview_of = self._previews.of(model)
        send(self._connection, "phase", phase="denoising")
        made = 0

        def on_step(step: int, total: int, latents: torch.Tensor) -> None:
            nonlocal made
            made = step
            send(self._connection, "step", step=step, total_steps=total)
            if step < total and (picture := preview_of(latents)):
                send(self._connection, "preview", step=step)
                self._connection.send_bytes(picture)
            if self._connection.poll(0) and receive(self._connection)["kind"] == "stop":
                raise Interrupted("stopped at a step")
            if step == total:
                send(self._connection, "phase", phase="decoding")

        panorama = paint(model, params, batches=batches, on_step=on_step)
        return panorama.pixels.data.cast("B"), {
            "timings": {"load": load_seconds, **panorama.timings},
            "total_steps": made,
            "notices": [asdict(notice) for notice in panorama.notices],
            "revision": model.revision,
            "memory": _memory(model),
            "width": params.width,
            "height": params.height,
        }

    def _tell_loaded(self, name: str, model: Model, seconds: float) -> None:
        log.info("model %s loaded in %.1f s, in %s on %s", name, seconds, model.dtype, model.device)
        send(self._connection, "loaded", model=name, seconds=seconds, memory=_memory(model))

    def _tell_failed(self, reason: str, detail: str, *, final: bool = False) -> None:
        send(self._connection, "failed", reason=reason, detail=detail, final=final)


def _memory(model: Model) -> dict[str, Any] | None:
    """Bytes on the model's GPU: what tensors hold, what the allocator holds, the most of a job, and all there is."""
    device = model.device
    if device.type != "cuda":
        return None
    return {
        "device": torch.cuda.get_device_name(device),
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "peak": torch.cuda.max_memory_allocated(device),
        "total": torch.cuda.get_device_properties(device).total_memory,
    }


if __name__ == "__main__":
    main()
