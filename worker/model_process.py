"""The warm model process: loads once, then paints what it is told. It knows nothing of Redis, and may be killed.

Started by `worker.child.ModelProcess` as `python -m worker.model_process FD`.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from dataclasses import asdict, fields
from multiprocessing.connection import Connection
from typing import Any

import torch

from engine.errors import BadPicture, EngineError, Interrupted, ModelError, ParamsError
from engine.model import StableDiffusion
from engine.paint import paint
from engine.params import PanoramaParams
from engine.picture import encode_png
from jobs import logs
from jobs.settings import Settings
from worker.messages import receive, send
from worker.preview import Previews
from worker.warm import WarmModels

log = logging.getLogger("worker.model_process")

# Errors of the request or of the model's own arithmetic: another attempt would end the same way.
_FINAL = {ParamsError: "cannot-be-painted", ModelError: "model-unavailable", BadPicture: "bad-picture"}


def main() -> None:
    """Serve one pipe until it closes."""
    connection = Connection(int(sys.argv[1]))
    # Ctrl-C goes to the whole terminal group; whether the running job may end is the worker's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    settings = Settings()
    logs.setup(settings.log_level, settings.log_format)
    models = WarmModels(
        settings.catalog,
        device=settings.device,
        dtype=settings.dtype,
        limit_bytes=int(settings.model_memory_gb * 2**30),
    )
    previews = Previews()
    default = next(iter(settings.catalog))
    try:
        model, seconds = models.get(default)
        _tell_loaded(connection, default, model, seconds)
        previews.learn(model)
    except ModelError as error:
        log.error(
            "the default model is not available: %s", error
        )  # its jobs will fail with this; others can be painted
    try:
        send(connection, "ready")
        while True:
            message = receive(connection)
            if message["kind"] == "paint":
                with logs.about(message.get("job", "")):
                    _serve(connection, models, previews, message, settings.view_batch_size)
    except (EOFError, OSError):
        log.info("the worker closed the pipe; leaving")


def _serve(
    connection: Connection, models: WarmModels, previews: Previews, message: dict[str, Any], view_batch_size: int
) -> None:
    """Paint one job and say how it ended. Only a broken pipe leaves this function as an exception."""
    try:
        png, summary = _paint(connection, models, previews, message["input"], view_batch_size)
    except Interrupted:
        send(connection, "interrupted")
    except EngineError as error:
        send(connection, "failed", reason=_FINAL.get(type(error), "engine-error"), detail=str(error), final=True)
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        send(connection, "failed", reason="out-of-memory", detail=str(error), final=False)
    except torch.AcceleratorError as error:  # what every later call of this process would meet as well
        send(connection, "failed", reason="device-error", detail=str(error).splitlines()[0], final=False)
    except (EOFError, BrokenPipeError, ConnectionError):
        raise
    except Exception as error:  # a fault of ours or of the device: told in full here, in brief to the user
        log.exception("a painting failed")
        send(connection, "failed", reason="internal-error", detail=f"{type(error).__name__} in the model", final=False)
    else:
        send(connection, "done", **summary)
        connection.send_bytes(png)


def _paint(
    connection: Connection, models: WarmModels, previews: Previews, job_input: dict[str, Any], view_batch_size: int
) -> tuple[bytes, dict[str, Any]]:
    name = job_input["model"]
    if not models.is_warm(name):
        send(connection, "phase", phase="loading")
    model, load_seconds = models.get(name)
    if load_seconds:
        _tell_loaded(connection, name, model, load_seconds)
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    known = {field.name for field in fields(PanoramaParams)}
    params = PanoramaParams(**{key: value for key, value in job_input.items() if key in known})
    preview_of = previews.of(model)
    send(connection, "phase", phase="denoising")

    def on_step(step: int, total: int, latents: torch.Tensor) -> None:
        send(connection, "step", step=step, total_steps=total)
        if step < total and (picture := preview_of(latents)):
            send(connection, "preview", step=step)
            connection.send_bytes(picture)
        if connection.poll(0) and receive(connection)["kind"] == "stop":
            raise Interrupted("stopped at a step")
        if step == total:
            send(connection, "phase", phase="decoding")

    panorama = paint(model, params, view_batch_size=view_batch_size, on_step=on_step)
    start = time.perf_counter()
    png = encode_png(panorama.pixels, params, model=name, revision=model.revision)
    timings = {"load": load_seconds, **panorama.timings, "png": round(time.perf_counter() - start, 4)}
    return png, {
        "timings": timings,
        "notices": [asdict(notice) for notice in panorama.notices],
        "revision": model.revision,
        "memory": _memory(model),
        "width": params.width,
        "height": params.height,
    }


def _tell_loaded(connection: Connection, name: str, model: StableDiffusion, seconds: float) -> None:
    log.info("model %s loaded in %.1f s", name, seconds)
    send(connection, "loaded", model=name, seconds=seconds, memory=_memory(model))


def _memory(model: StableDiffusion) -> dict[str, Any] | None:
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
