"""Making a loaded model as fast as its device allows, before the first job waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend

from engine.batching import MicroBatches
from engine.compiling import compile_unet
from engine.guidance import Guidance
from engine.model import StableDiffusion
from engine.views import View

log = logging.getLogger(__name__)

_BACKENDS = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)


def warm_up(model: StableDiffusion, batches: MicroBatches, *, compiled: bool) -> StableDiffusion:
    """The model, ready: its attention kernel chosen by measurement on a GPU, its UNet compiled if `compiled`.

    It is called with and without guidance, which are compiled by themselves. That takes minutes for a large model and
    is kept in `TORCHINDUCTOR_CACHE_DIR`: a later start takes less. Where nothing can be compiled, for want of a C
    compiler say, the log says so and the model is as it was.
    """
    if model.device.type == "cuda":
        model = replace(model, attention=choose_attention(model, batches.size))
    if not compiled:
        return model
    ready = replace(model, unet=compile_unet(model.unet))
    try:
        # diffusers has a code path of its own from 64 samples on, which is 32 guided views.
        for views in {batches.size, min(batches.size, 31)}:
            start = time.perf_counter()
            for guided in (True, False):
                _call_in_batches(ready, MicroBatches(views), guided=guided)
            log.info("compiled for %d views a call in %.1f s", views, time.perf_counter() - start)
    except torch.AcceleratorError:  # the device's own, which nothing in this process survives
        raise
    except Exception:  # whatever a compiler meets on an unknown machine: the model itself is sound
        log.exception("the UNet cannot be compiled here; going on without")
        return model
    return ready


def _call_in_batches(model: StableDiffusion, batches: MicroBatches, *, guided: bool) -> None:
    """As many predictions as a call may have, in fewer a call where they do not fit into memory."""

    def call(batch: Sequence[int]) -> None:
        call_unet(model, len(batch), guided=guided)

    batches.run(range(batches.size), call)


def call_unet(model: StableDiffusion, views: int, *, guided: bool) -> torch.Tensor:
    """One prediction of as many views, waited for."""
    window = model.facts.window
    conditioning = model.encode("", "")
    with torch.inference_mode():
        predicted = model.predict(
            torch.zeros(views, model.latent_channels, window, window, device=model.device),
            [View(0, window, 0, window)] * views,
            timestep=torch.full((), 500.0, device=model.device),
            conditioning=conditioning,
            guidance=Guidance(2.0 if guided else 1.0),
            canvas=(window, window),
        )
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return predicted


def choose_attention(model: StableDiffusion, views: int) -> tuple[SDPBackend, ...]:
    """The fused attention kernels that the model can use, the fastest first; none where only the plain one works.

    In turn, and by the best of several calls: other work on the device slows a call and not a kernel. The order of the
    others is always the same, so that what was compiled for the fastest is found again (`StableDiffusion.predict`).
    Compiled models of one architecture share their code within a process, and so the choice of the first of them.
    """
    left = {backend: MicroBatches(views) for backend in _BACKENDS}
    seconds: dict[SDPBackend, float] = {}  # a view
    for _ in range(6):
        for backend, batches in tuple(left.items()):
            count, start = batches.size, time.perf_counter()
            try:
                _call_in_batches(replace(model, attention=(backend,)), batches, guided=True)
            except torch.AcceleratorError:
                raise
            except RuntimeError as error:  # a kernel may not take this head size or dtype
                log.debug("%s: %s", backend.name, error)
                del left[backend]
            else:
                taken = (time.perf_counter() - start) / count
                seconds[backend] = min(taken, seconds.get(backend, taken))
    told = ", ".join(f"{backend.name} {1000 * taken:.2f}" for backend, taken in seconds.items())
    log.info("attention kernels, ms a view: %s", told or "none fused")
    if not seconds:
        return ()
    fastest = min(seconds, key=seconds.__getitem__)
    return (fastest, *(backend for backend in seconds if backend is not fastest), SDPBackend.MATH)
