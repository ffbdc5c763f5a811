"""A loaded Stable Diffusion (1.x, 2.x) and the three things the loop asks of it: encode, predict, decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from engine.catalog import ModelSpec
from engine.params import Geometry


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know of a picture that was painted all the same."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Text embeddings (1, tokens, dim) of the prompt and of the negative prompt."""

    positive: torch.Tensor
    negative: torch.Tensor
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """The components of one model on one device, never changed after loading (`engine.loading.load_model`)."""

    spec: ModelSpec
    revision: str
    geometry: Geometry
    tokenizer: Any
    text_encoder: Any
    unet: Any
    vae: Any
    circular_decoder: Any
    scheduler_config: dict[str, Any]
    device: torch.device
    dtype: torch.dtype

    @property
    def latent_channels(self) -> int:
        return int(self.unet.config.in_channels)

    @property
    def nbytes(self) -> int:
        """Memory of the weights in bytes."""
        modules = (self.text_encoder, self.unet, self.vae)
        return sum(p.numel() * p.element_size() for module in modules for p in module.parameters())

    def encode(self, prompt: str, negative_prompt: str) -> Conditioning:
        """Embed both prompts; a prompt longer than the text encoder reads is cut with a notice, never in silence."""
        positive, cut = self._embed(prompt, "prompt")
        negative, negative_cut = self._embed(negative_prompt, "negative_prompt")
        return Conditioning(positive, negative, cut + negative_cut)

    def predict(
        self, crops: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> torch.Tensor:
        """Classifier-free guidance (arXiv 2207.12598) for crops (n, C, h, w): negative + scale * (positive - negative).

        Both halves go through the UNet in one call; a scale of 1 leaves the negative half nothing to do, so it is
        left out.
        """
        guided = guidance_scale != 1.0
        count = crops.shape[0]
        samples = torch.cat([crops, crops]) if guided else crops
        halves = (conditioning.negative, conditioning.positive) if guided else (conditioning.positive,)
        states = torch.cat([half.expand(count, -1, -1) for half in halves])
        output = self.unet(
            samples.to(self.dtype), timestep.to(self.device), encoder_hidden_states=states, return_dict=False
        )[0].float()
        if not guided:
            return output
        negative, positive = output.chunk(2)
        return negative + guidance_scale * (positive - negative)

    def decode(self, latents: torch.Tensor, *, circular: bool = False) -> torch.Tensor:
        """Latents (1, C, H, W) to pixels (1, 3, H * f, W * f) in about [-1, 1], fp32.

        16-bit decoders can overflow on rare latents; those are decoded again in fp32.
        """
        config = self.vae.config
        scaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        pixels = self._decode(scaled.to(self.dtype), circular)
        if self.dtype == torch.float32 or bool(pixels.isfinite().all()):
            return pixels
        try:
            self.vae.float()
            return self._decode(scaled.float(), circular)
        finally:
            self.vae.to(self.dtype)

    def _decode(self, latents: torch.Tensor, circular: bool) -> torch.Tensor:
        if self.vae.post_quant_conv is not None:
            latents = self.vae.post_quant_conv(latents)
        return (self.circular_decoder if circular else self.vae.decoder)(latents).float()

    def _embed(self, text: str, field: str) -> tuple[torch.Tensor, tuple[Notice, ...]]:
        limit = self.tokenizer.model_max_length
        tokens = self.tokenizer(
            text, padding="max_length", max_length=limit, truncation=True, return_tensors="pt"
        ).input_ids
        embedding = self.text_encoder(tokens.to(self.device), return_dict=False)[0]
        return embedding, self._cut_notice(text, field, limit)

    def _cut_notice(self, text: str, field: str, limit: int) -> tuple[Notice, ...]:
        # Two of the places are the start and end marks.
        tokens = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        if len(tokens) <= limit - 2:
            return ()
        lost = self.tokenizer.decode(tokens[limit - 2 :])
        detail = f"{field} has {len(tokens)} tokens and the model reads {limit - 2}; this was left out: {lost!r}"
        return (Notice("prompt-truncated", detail),)
