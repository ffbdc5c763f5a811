"""Models kept in memory between jobs, within a limit; the one used longest ago goes first."""

from __future__ import annotations

import gc
import time
from collections import OrderedDict

import torch

from engine.catalog import ModelSpec
from engine.errors import ModelError
from engine.loading import default_device, load_model
from engine.model import StableDiffusion


class WarmModels:
    """The models of an allow-list, loaded on first use onto one device."""

    def __init__(self, catalog: dict[str, ModelSpec], *, device: str | None, dtype: str, limit_bytes: int) -> None:
        self._catalog = catalog
        self._device = device or default_device()
        self._dtype = dtype
        self._limit = limit_bytes
        self._models: OrderedDict[str, StableDiffusion] = OrderedDict()

    def is_warm(self, name: str) -> bool:
        return name in self._models

    def get(self, name: str) -> tuple[StableDiffusion, float]:
        """The model and the seconds its loading took: 0.0 when it was warm.

        Raises:
            ModelError: when the name is not on the list or the model cannot be loaded.
        """
        if name in self._models:
            self._models.move_to_end(name)
            return self._models[name], 0.0
        if name not in self._catalog:
            raise ModelError(f"this worker's list of models has no {name!r}")
        start = time.perf_counter()
        self._models[name] = load_model(self._catalog[name], device=self._device, dtype=self._dtype)
        self._shrink()
        return self._models[name], round(time.perf_counter() - start, 4)

    def _shrink(self) -> None:
        while len(self._models) > 1 and sum(model.nbytes for model in self._models.values()) > self._limit:
            self._models.popitem(last=False)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
