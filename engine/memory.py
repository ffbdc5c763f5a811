"""Estimate the device memory that a painting needs, before it begins.

The network and the decoder are run on tensors without data, and the bytes of tensors that are alive at the same time
are counted. The network's grow linearly with the rows of a call and the decoder's with the canvas, so two runs of each
are enough, and nothing has to be known of a model's layers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from engine.batching import MicroBatches
from engine.guidance import Guidance
from engine.model import Model
from engine.speed.heap import give_freed_memory_back
from engine.tiles import Tile
from recipe.errors import FieldError, RecipeError
from recipe.fields import Recipe
from recipe.views import View

# For workspaces of libraries, and for memory that an allocator holds in pieces too small to use.
_MARGIN = 1.2


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors made inside it that are alive; `peak` is the largest count."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(_storage(tensor)) for tensor in pytree.tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(made):
            if _is_tensor(tensor) and id(storage := _storage(tensor)) not in given and storage not in self._known:
                self._known[storage] = storage.nbytes()
                self.live += storage.nbytes()
                weakref.finalize(storage, self._let_go, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return made

    def _let_go(self, size: int) -> None:
        self.live -= size


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def peak_bytes(run: Callable[[], object]) -> int:
    """The largest count of bytes of tensors alive at the same time in `run`; nothing is computed."""
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as counted:
        run()
    return counted.peak


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes beside the weights: of a network call by its rows, of a decode by its latent cells, and to encode a picture
    of one view's size.
    """

    unet_fixed: float
    unet_sample: float
    decode_fixed: float
    decode_cell: float
    encode_view: float = 0.0

    def unet(self, samples: int) -> int:
        return int(_MARGIN * (self.unet_fixed + samples * self.unet_sample))

    def decode(self, cells: int) -> int:
        return int(_MARGIN * (self.decode_fixed + cells * self.decode_cell))

    def encode(self) -> int:
        return int(_MARGIN * self.encode_view)


def measure(model: Model) -> Footprint:
    """The footprint of a model. Takes some seconds for a large one."""
    window, channels = model.facts.window, model.latent_channels
    model = model.uncompiled()  # torch.compile that once meets a tensor without data never compiles again

    def latents(width: int) -> torch.Tensor:
        return torch.zeros(1, channels, window, width, device=model.device)

    def predict(views: int) -> object:
        guidance = Guidance(model.blank_text(), 2.0)
        tiles = [Tile(View(0, window, 0, window), torch.ones(()))] * views
        rows = guidance.rows(torch.cat([latents(window)] * views), tiles, (window, window))
        return model.predict(rows, torch.zeros((), device=model.device))

    def decode(width: int) -> object:
        return model.run_decoder(latents(width).to(model.dtype), False)

    def encode() -> object:
        side = model.facts.window_px
        return model.run_encoder(torch.zeros(1, 3, side, side, dtype=model.dtype, device=model.device))

    one, two = peak_bytes(lambda: predict(1)), peak_bytes(lambda: predict(2))
    # Wide enough that a decoder's strips, whose size is bounded, are a small part.
    narrow, wide = peak_bytes(lambda: decode(4 * window)), peak_bytes(lambda: decode(8 * window))
    by_cell = (wide - narrow) / (4 * window * window)
    # A decoder that runs in a wider type takes its tensors and its weights in that type.
    wider = model.decoder_dtype.itemsize / model.dtype.itemsize
    return Footprint(
        unet_fixed=max(2 * one - two, 0),
        unet_sample=(two - one) / 2,
        decode_fixed=wider * max(2 * narrow - wide, 0) + (wider - 1) * model.decoder_nbytes,
        decode_cell=wider * by_cell,
        encode_view=wider * peak_bytes(encode) + (wider - 1) * model.decoder_nbytes,
    )


def free_bytes(device: torch.device, wanted: int = 0) -> int | None:
    """Memory that a job may still take on `device`, in bytes, or None where it is not known.

    Where less than `wanted` is free on a CPU, the heap first gives back the memory it keeps.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    free = _cpu_bytes()
    if free is None or free >= wanted:
        return free
    give_freed_memory_back()
    return _cpu_bytes()


def _cpu_bytes() -> int | None:
    known = [value for value in (_host_bytes(), _cgroup_bytes()) if value is not None]
    return min(known, default=None)


def _host_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def _cgroup_bytes() -> int | None:
    """What this container may still take (cgroup v2)."""
    try:
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no cgroup, or "max"
        return None
    return max(limit - used, 0)


def needed_bytes(footprint: Footprint, model: Model, params: Recipe, views: int) -> int:
    """What a job takes beside the model, in bytes, with `views` tiles a call."""
    factor = model.facts.latent_factor
    cells = (params.width // factor) * (params.height // factor)
    canvas = 16 * cells * model.latent_channels * 4  # the canvas, its fusion and a solver's memory, in fp32
    grounds = footprint.encode() if params.bootstraps_at(0) else 0
    return canvas + max(footprint.decode(cells), footprint.unet(2 * views), grounds)


def fit(footprint: Footprint, model: Model, params: Recipe, batches: MicroBatches, free_bytes: int) -> MicroBatches:
    """`batches`, or smaller ones where a UNet call would not fit into `free_bytes`.

    Raises:
        RecipeError: when not even one view at a time fits, or the decode does not.
    """
    size = batches.size
    while (needed := needed_bytes(footprint, model, params, size)) > free_bytes:
        if size == 1:
            raise _too_large(params, needed, free_bytes)
        size //= 2
    return batches if size == batches.size else MicroBatches(size)


def _too_large(params: Recipe, needed: int, free_bytes: int) -> RecipeError:
    detail = (
        f"{params.width}x{params.height} needs about {needed / 2**30:.1f} GiB of the device's memory beside the model,"
        f" of which {free_bytes / 2**30:.1f} GiB are free; a smaller canvas fits"
    )
    return RecipeError((FieldError("width", detail),))
