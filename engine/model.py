"""What the engine asks of a loaded model, whatever its family. Each family is a file in `engine.families`."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch.nn.attention import SDPBackend

from engine.inputs.text import Conditioning
from engine.tiles import Rows
from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.models import ModelSpec


class Model(Protocol):
    """One model on one device, never changed after loading (`engine.loading.load_model`)."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def revision(self) -> str:
        """What identifies the weights."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def latent_channels(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Memory of the weights, and of what was computed from them, in bytes."""

    @property
    def is_compiled(self) -> bool: ...

    def move(self, device: str | torch.device) -> None:
        """Take the weights to `device`; the model paints on its own device alone."""

    def encode(self, recipe: Recipe) -> Conditioning:
        """Embed all prompts; every part that is ignored gets a notice."""

    def blank_text(self) -> Conditioning:
        """Embeddings of the right shapes without a meaning, for measuring."""

    def predict(self, rows: Rows, timestep: torch.Tensor) -> torch.Tensor:
        """The network's prediction for every row, fp32, as (branches, tiles, C, h, w).

        `timestep` is a scalar on the model's device.
        """

    @property
    def decoder_dtype(self) -> torch.dtype:
        """What the decoder runs in, which may be wider than `dtype`."""

    @property
    def decoder_nbytes(self) -> int:
        """Bytes of the VAE's weights in `dtype`."""

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (n, 3, H, W) in [-1, 1] to latents (n, C, H / f, W / f) as the network knows them, fp32."""

    def run_encoder(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels in the encoder's dtype to latents in its own scale, fp32, whatever comes out."""

    def decode(self, latents: torch.Tensor, *, circular: bool = False) -> torch.Tensor:
        """Latents (1, C, H, W) to pixels (1, 3, H * f, W * f) in about [-1, 1], fp32."""

    def run_decoder(self, latents: torch.Tensor, circular: bool) -> torch.Tensor:
        """Latents in the decoder's own scale and dtype to pixels, fp32, whatever comes out."""

    def compiled(self) -> Self:
        """The same weights with the network compiled when it is first called."""

    def uncompiled(self) -> Self:
        """The same weights with the network as it was loaded."""

    def with_attention(self, backends: tuple[SDPBackend, ...]) -> Self:
        """The same weights with these attention kernels, in the order to be tried."""
