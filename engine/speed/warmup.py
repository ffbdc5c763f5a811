"""Make a loaded model as fast as its device allows, before the first job waits for it."""

from __future__ import annotations

import logging
import time

import torch
from torch.nn.attention import SDPBackend

from engine.batching import MicroBatches
from engine.guidance import Guidance
from engine.model import Model
from engine.tiles import Tile
from recipe.views import View

log = logging.getLogger(__name__)

_BACKENDS = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)


def warm_up(model: Model, batches: MicroBatches, *, compiled: bool) -> Model:
    """Choose the attention kernel by measurement on a GPU and, if `compiled`, compile the network.

    The network is called with and without guidance, since each is compiled by itself. That takes minutes for a large
    model and is kept in `TORCHINDUCTOR_CACHE_DIR`: a later start takes less. Where nothing can be compiled, for want of
    a C compiler say, the log says so and the model is returned as it was.
    """
    if model.device.type == "cuda":
        model = model.with_attention(choose_attention(model, batches.size))
    if not compiled:
        return model
    ready = model.compiled()
    try:
        # diffusers has a code path of its own from 64 samples on, which is 32 guided tiles.
        for tiles in {batches.size, min(batches.size, 31)}:
            start = time.perf_counter()
            for guided in (True, False):
                _call_in_batches(ready, MicroBatches(tiles), guided=guided)
            log.info("compiled for %d tiles a call in %.1f s", tiles, time.perf_counter() - start)
    except torch.AcceleratorError:  # a fault of the device: nothing in this process survives it
        raise
    except Exception:  # whatever a compiler meets on an unknown machine: the model itself is sound
        log.exception("the network cannot be compiled here; going on without")
        return model
    return ready


def _call_in_batches(model: Model, batches: MicroBatches, *, guided: bool) -> None:
    """Predict as many tiles as a call may have, in smaller calls where they do not fit into memory."""
    for batch in batches.split(range(batches.size)):
        with batch as tiles:
            call_network(model, len(tiles), guided=guided)


def call_network(model: Model, count: int, *, guided: bool) -> torch.Tensor:
    """One prediction of `count` tiles, waited for; (branches, count, C, window, window)."""
    window = model.facts.window
    guidance = Guidance(model.blank_text(), 2.0 if guided else 1.0)
    with torch.inference_mode():
        crops = torch.zeros(count, model.latent_channels, window, window, device=model.device)
        tiles = [Tile(View(0, window, 0, window), torch.ones((), device=model.device))] * count
        rows = guidance.rows(crops, tiles, (window, window))
        predicted = model.predict(rows, torch.full((), 500.0, device=model.device))
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return predicted


def choose_attention(model: Model, count: int) -> tuple[SDPBackend, ...]:
    """The fused attention kernels that the model can use, the fastest first; empty where only the plain one works.

    Kernels are timed in turn, and by the best of several calls: other work on the device slows a call, never speeds it
    up. The order of the slower ones is always the same, so that what was compiled for the fastest is found again.
    Compiled models of one architecture share their code within a process, and so the choice of the first of them.
    """
    candidates = {backend: MicroBatches(count) for backend in _BACKENDS}
    seconds: dict[SDPBackend, float] = {}  # a tile
    for _ in range(6):
        for backend, batches in tuple(candidates.items()):
            size, start = batches.size, time.perf_counter()
            try:
                _call_in_batches(model.with_attention((backend,)), batches, guided=True)
            except torch.AcceleratorError:
                raise
            except RuntimeError as error:  # a kernel may not support this head size or dtype
                log.debug("%s: %s", backend.name, error)
                del candidates[backend]
            else:
                taken = (time.perf_counter() - start) / size
                seconds[backend] = min(taken, seconds.get(backend, taken))
    summary = ", ".join(f"{backend.name} {1000 * taken:.2f}" for backend, taken in seconds.items())
    log.info("attention kernels, ms a tile: %s", summary or "none fused")
    if not seconds:
        return ()
    fastest = min(seconds, key=seconds.__getitem__)
    return (fastest, *(backend for backend in seconds if backend is not fastest), SDPBackend.MATH)
