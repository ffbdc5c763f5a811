"""Keeps models in memory between jobs, up to a limit; the least recently used one is evicted first.

From a GPU it moves to the host's memory while that has room: loading it back from there is faster than from its files.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

import torch

from engine.batching import MicroBatches, is_out_of_memory
from engine.loading import default_device, default_dtype, load_model
from engine.memory import Footprint, fit, free_bytes, measure, needed_bytes
from engine.model import Model
from engine.speed.warmup import warm_up
from jobs.settings import Settings
from recipe.errors import ModelError
from recipe.fields import Recipe
from recipe.models import ModelSpec

log = logging.getLogger(__name__)

# Bytes per pixel of the canvas, enough for every known model in fp32. With this much free, memory is not measured.
_AMPLE_BYTES_PER_PIXEL = 16 * 1024

_HOST_RESERVE = 4 * 2**30  # bytes of the host's memory that stay free of evicted models


@dataclass(slots=True)
class _Warm:
    model: Model
    batches: MicroBatches
    footprint: Footprint | None = None


class WarmModels:
    """The models of the allow-list, loaded onto one device on first use."""

    def __init__(self, catalog: dict[str, ModelSpec], settings: Settings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._device = settings.device or default_device()
        self._dtype = settings.dtype or default_dtype(self._device)
        self._models: OrderedDict[str, _Warm] = OrderedDict()
        self._offloaded: OrderedDict[str, _Warm] = OrderedDict()  # in the host's memory

    def is_warm(self, name: str) -> bool:
        """Whether the model is loaded on the device."""
        return name in self._models

    def get(self, name: str) -> tuple[Model, float]:
        """The model, and the seconds that loading and warming it up took: 0.0 when it was warm.

        Raises:
            ModelError: when the allow-list does not have the name, or the model cannot be loaded.
        """
        if name in self._models:
            self._models.move_to_end(name)
            return self._models[name].model, 0.0
        if name not in self._catalog:
            raise ModelError(f"this worker's list of models has no {name!r}")
        start = time.perf_counter()
        model = self._prepare_beside_others(name)
        if model is None:
            log.warning("model %s does not fit beside the other models; loading it alone", name)
            self._evict(keep=0)
            model = self._prepare(name)
        return model, round(time.perf_counter() - start, 4)

    def _prepare_beside_others(self, name: str) -> Model | None:
        """As `_prepare`, but None when the memory is too small and evicting other models may help."""
        try:
            return self._prepare(name)
        except Exception as error:
            if is_out_of_memory(error) and self._models:
                return None
            raise

    def _prepare(self, name: str) -> Model:
        """Load the model onto the device and warm it up."""
        offloaded = self._offloaded.pop(name, None)
        try:
            warm = self._models[name] = offloaded or self._load(name)
            self._evict()  # make room before the next step allocates memory
            if offloaded:
                warm.model.move(self._device)
            else:
                warm.model = warm_up(warm.model, warm.batches, compiled=self._compiled)
        except BaseException:
            self._models.pop(name, None)  # it may be half on the device
            raise
        return warm.model

    def _load(self, name: str) -> _Warm:
        model = load_model(self._catalog[name], device=self._device, dtype=self._dtype)
        return _Warm(model, MicroBatches(self._settings.view_batch_size))

    @property
    def _compiled(self) -> bool:
        on_gpu = torch.device(self._device).type == "cuda"
        return on_gpu if self._settings.compile is None else self._settings.compile

    def batches(self, name: str, params: Recipe) -> MicroBatches:
        """How many views share a UNet call for this job, so that it fits into the free memory. The model must be warm.

        Raises:
            RecipeError: when not even one view at a time fits.
        """
        warm = self._models[name]
        device, limit = warm.model.device, self._settings.job_memory_gb
        free = free_bytes(device) if limit is None else int(limit * 2**30)
        if free is None or free > _AMPLE_BYTES_PER_PIXEL * params.width * params.height:
            return warm.batches
        if warm.footprint is None:
            warm.footprint = measure(warm.model)
        if limit is None:
            wanted = needed_bytes(warm.footprint, warm.model, params, warm.batches.size)
            free = free_bytes(device, wanted) or 0
        return fit(warm.footprint, warm.model, params, warm.batches, free)

    @property
    def can_offload(self) -> bool:
        """Whether the host has memory of its own, apart from the device's."""
        return torch.device(self._device).type != "cpu"

    def _evict(self, *, keep: int = 1) -> None:
        """Evict models beyond the limit, but the last one; with `keep=0`, all of them."""
        limit = self._settings.model_memory_gb * 2**30 if keep else -1
        while len(self._models) > keep and sum(warm.model.nbytes for warm in self._models.values()) > limit:
            name, warm = self._models.popitem(last=False)
            if self.can_offload:
                warm.model.move("cpu")
                self._offloaded[name] = warm
        room = free_bytes(torch.device("cpu"), _HOST_RESERVE)
        while self._offloaded and room is not None and room < _HOST_RESERVE:
            room += self._offloaded.popitem(last=False)[1].model.nbytes
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
