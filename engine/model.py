"""A loaded Stable Diffusion (1.x, 2.x, XL) and the three things the loop asks of it: encode, predict, decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine import decoder
from engine.guidance import Guidance
from engine.text import Conditioning, TextEncoders
from engine.views import View
from recipe.facts import ModelFacts
from recipe.models import ModelSpec


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """The components of one model on one device, never changed after loading (`engine.loading.load_model`)."""

    spec: ModelSpec
    revision: str
    facts: ModelFacts
    text: TextEncoders
    unet: Any
    vae: Any
    scheduler_config: dict[str, Any]
    device: torch.device
    dtype: torch.dtype
    attention: tuple[SDPBackend, ...] = ()  # in the order to be tried; empty: torch's own choice

    @property
    def latent_channels(self) -> int:
        return int(self.unet.config.in_channels)

    @property
    def nbytes(self) -> int:
        """Memory of the weights, and of what was computed from them, in bytes."""
        modules = (*self.text.models, self.unet, self.vae)
        return sum(kept.nbytes for module in modules for kept in chain(module.parameters(), module.buffers()))

    @property
    def is_compiled(self) -> bool:
        """Whether the UNet is (`engine.compiling`)."""
        return hasattr(self.unet, "_orig_mod")

    def uncompiled(self) -> StableDiffusion:
        """The same weights, with the UNet as it was before it was compiled."""
        return replace(self, unet=getattr(self.unet, "_orig_mod", self.unet))

    def move(self, device: str | torch.device) -> None:
        """Take the weights to `device`; the model paints on its own device alone."""
        for module in (*self.text.models, self.unet, self.vae):
            module.to(device)

    def encode(self, prompt: str, negative_prompt: str) -> Conditioning:
        """Embed both prompts; a prompt longer than the text encoder reads is cut with a notice."""
        return self.text.encode(prompt, negative_prompt)

    def predict(
        self,
        crops: torch.Tensor,
        views: Sequence[View],
        *,
        timestep: torch.Tensor,
        conditioning: Conditioning,
        guidance: Guidance,
        canvas: tuple[int, int],
    ) -> torch.Tensor:
        """The UNet's guided prediction for crops (n, C, h, w) that lie at `views` on a `canvas` of (H, W) cells, fp32.

        Both halves of the guidance go through the UNet in one call; where it is not active there is only one.
        """
        count = len(views)
        unet = self.unet if count > 1 else self.uncompiled().unet  # one is a number that would be compiled by itself
        halves = (conditioning.negative, conditioning.positive) if guidance.active else (conditioning.positive,)
        samples = torch.cat([crops] * len(halves)).to(self.dtype, memory_format=torch.channels_last)
        timesteps = timestep.expand(len(samples))
        states = torch.cat([half.states.expand(count, -1, -1) for half in halves])
        added = self._added_conditions(conditioning, views, canvas, len(halves))
        if self.is_compiled:
            for tensor in (samples, timesteps, states, *(added or {}).values()):
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        with self._chosen_attention():
            output = unet(
                samples,
                timesteps,
                encoder_hidden_states=states,
                added_cond_kwargs=added,
                cross_attention_kwargs={"guided": guidance.active},
                return_dict=False,
            )[0].float()
        if not guidance.active:
            return output
        return guidance(*output.chunk(2))

    @contextmanager
    def _chosen_attention(self) -> Iterator[None]:
        """Where there is a choice, attention by it. What is compiled meanwhile holds these kernels for good."""
        if not self.attention:
            yield
            return
        # torch keeps compiled code by the graph alone and would give out, at a later start, that of another choice.
        # Set and put back by hand: the configuration's own `patch` leaves some memory behind at every use.
        config: Any = torch.compiler.config
        before = config.cache_key_tag
        config.cache_key_tag = "+".join([before, *(backend.name for backend in self.attention)])
        try:
            with sdpa_kernel(list(self.attention), set_priority=True):
                yield
        finally:
            config.cache_key_tag = before

    def decode(self, latents: torch.Tensor, *, circular: bool = False) -> torch.Tensor:
        """Latents (1, C, H, W) to pixels (1, 3, H * f, W * f) in about [-1, 1], fp32.

        16-bit decoders can overflow on rare latents; those are decoded again in fp32, and such that are known to do it
        (SDXL's says `force_upcast`) at once.
        """
        config = self.vae.config
        scaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        if not (self.dtype == torch.float16 and getattr(config, "force_upcast", False)):
            pixels = self._decode(scaled.to(self.dtype), circular)
            if self.dtype == torch.float32 or bool(pixels.isfinite().all()):
                return pixels
        try:
            self.vae.float()
            return self._decode(scaled.float(), circular)
        finally:
            self.vae.to(self.dtype)

    def _decode(self, latents: torch.Tensor, circular: bool) -> torch.Tensor:
        try:
            return self.run_decoder(latents, circular)
        except torch.OutOfMemoryError:
            pass  # only after this clause are the tensors let go that the failed call held
        torch.cuda.empty_cache()  # what denoising left behind may be free in pieces that are too small
        return self.run_decoder(latents, circular)

    def run_decoder(self, latents: torch.Tensor, circular: bool) -> torch.Tensor:
        """Scaled latents in the decoder's dtype to pixels, fp32, whatever comes out."""
        if self.vae.post_quant_conv is not None:
            latents = self.vae.post_quant_conv(latents)
        return decoder.decode(self.vae.decoder, latents, circular=circular).float()

    def _added_conditions(
        self, conditioning: Conditioning, views: Sequence[View], canvas: tuple[int, int], halves: int
    ) -> dict[str, torch.Tensor] | None:
        """SDXL is told of each view which part of the whole picture it is (arXiv 2307.01952, section 2.2)."""
        positive, negative = conditioning.positive.pooled, conditioning.negative.pooled
        if positive is None or negative is None:
            return None
        factor, window = self.facts.latent_factor, self.facts.window_px
        height, width = canvas[0] * factor, canvas[1] * factor
        sizes = [(height, width, view.top * factor, view.left * factor, window, window) for view in views]
        pooled = (negative, positive) if halves == 2 else (positive,)
        return {
            "text_embeds": torch.cat([half.expand(len(views), -1) for half in pooled]),
            "time_ids": torch.tensor(sizes * halves, dtype=self.dtype).to(self.device, non_blocking=True),
        }
