"""Small previews of an unfinished canvas, computed by a linear map from latents to colours.

A decoder's response to smooth latents is nearly linear: Stable Diffusion's four channels are mostly brightness and
three colour axes. So a matrix fitted once per model shows the composition in microseconds, where decoding the canvas
would take as long as several steps. A preview must never fail or slow down a job: errors are logged and nothing else.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable

import torch
from PIL import Image
from torch.nn import functional as F

from engine.model import Model

log = logging.getLogger("worker.preview")

_EVERY_SECONDS = 1.0
_SLOWEST_SECONDS = 0.25  # after a preview that took longer, the job gets no more of them
_WIDEST = 384
_SAMPLES, _CELLS = 4, 16  # number and side length of the random latents that the map is fitted to

PreviewOf = Callable[[torch.Tensor], bytes | None]


class Previews:
    """The maps of models, fitted on first use."""

    def __init__(self) -> None:
        self._maps: dict[str, torch.Tensor | None] = {}  # by the model's revision

    def learn(self, model: Model) -> torch.Tensor | None:
        """The model's map (C + 1, 3), on its device; None when it could not be fitted."""
        if model.revision not in self._maps:
            try:
                self._maps[model.revision] = fit(model)
            except Exception:
                log.exception("no previews for this model")
                self._maps[model.revision] = None
        return self._maps[model.revision]

    def of(self, model: Model) -> PreviewOf:
        """A function for one job, called with the canvas after each step. It returns a JPEG about once a second."""
        colours = self.learn(model)
        due, broken = 0.0, colours is None

        def preview(latents: torch.Tensor) -> bytes | None:
            nonlocal due, broken
            start = time.monotonic()
            if broken or start < due:
                return None
            try:
                assert colours is not None
                return render(latents, colours)
            except Exception:
                log.exception("no further previews of this job")
                broken = True
                return None
            finally:
                took = time.monotonic() - start
                broken = broken or took > _SLOWEST_SECONDS
                due = time.monotonic() + _EVERY_SECONDS

        return preview


def fit(model: Model) -> torch.Tensor:
    """Least-squares fit from random latents to their decoded colours: (C + 1, 3), the last row is the offset.

    The random latents are smooth, as those of pictures are: flat colours with a little noise at several scales.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    latents = torch.zeros((_SAMPLES, model.latent_channels, _CELLS, _CELLS))
    for cells, scale in ((2, 1.0), (4, 0.5), (_CELLS, 0.1)):
        noise = torch.randn((_SAMPLES, model.latent_channels, cells, cells), generator=generator)
        latents += scale * F.interpolate(noise, size=(_CELLS, _CELLS), mode="nearest")
    with torch.inference_mode():
        decoded = torch.cat([model.decode(sample[None].to(model.device)) for sample in latents]).float().cpu()
    pooled = F.adaptive_avg_pool2d(decoded.clamp(-1, 1), _CELLS)
    inputs = latents.permute(0, 2, 3, 1).reshape(-1, model.latent_channels)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    outputs = pooled.permute(0, 2, 3, 1).reshape(-1, 3)
    solution = torch.linalg.lstsq(inputs, outputs).solution
    if not bool(solution.isfinite().all()):
        raise ValueError("the map from latents to colours is not finite")
    return solution.to(model.device)


def render(latents: torch.Tensor, colours: torch.Tensor) -> bytes:
    """A canvas (1, C, h, w) as a JPEG of one pixel per latent cell, scaled down where the canvas is very wide."""
    canvas = latents[0].float()
    # Schedulers that work in sigmas start with values far outside the range of latents.
    canvas = canvas / canvas.std().clamp(min=1.0)
    if canvas.shape[-1] > _WIDEST:
        factor = _WIDEST / canvas.shape[-1]
        canvas = F.interpolate(canvas[None], scale_factor=factor, mode="area")[0]
    rgb = torch.einsum("chw,cd->hwd", canvas, colours[:-1]) + colours[-1]
    pixels = ((rgb / 2 + 0.5).clamp(0, 1).nan_to_num() * 255).round().to(torch.uint8).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
