"""Stable Diffusion 1.x and 2.x: one CLIP text model, a UNet, a VAE of four latent channels."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.nn.attention import SDPBackend
from transformers import CLIPTextModel, CLIPTokenizer

from engine import decoder
from engine.files import ModelFiles, align
from engine.inputs.embeddings import revision_with, with_embeddings
from engine.inputs.text import (
    Conditioning,
    PromptEncoder,
    TextEmbedding,
    embed_with_one_clip,
)
from engine.speed import accelerate
from engine.speed.attention import chosen_attention
from engine.speed.compiling import compile_unet
from engine.tiles import Rows
from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.models import ModelSpec


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """The components of one model on one device, never changed after loading (`engine.loading.load_model`).

    `compiled_unet` is `unet` with its weights, compiled (`engine.speed.compiling`). `attention` are kernels in the
    order to be tried; empty, it is torch's own choice.
    """

    spec: ModelSpec
    revision: str
    facts: ModelFacts
    text: PromptEncoder
    unet: Any
    vae: Any
    device: torch.device
    dtype: torch.dtype
    compiled_unet: Any = None
    attention: tuple[SDPBackend, ...] = ()

    @classmethod
    def load(
        cls,
        spec: ModelSpec,
        files: ModelFiles,
        device: str,
        dtype: torch.dtype,
        *,
        accelerated: bool = True,
    ) -> Self:
        """Read every component onto `device`.

        Raises:
            ModelError: when a weight is missing, or a tokenizer or a textual inversion does not fit its text model.
            OSError, ValueError, KeyError, RuntimeError: when a file is missing or holds something else.
        """
        text = with_embeddings(cls.load_text(files, dtype), spec.embeddings)
        unet = files.load("unet", UNet2DConditionModel, dtype)
        vae = files.load("vae", AutoencoderKL, dtype)
        # diffusers reads a configuration that does not say as true, and would decode nearly every model in fp32.
        vae.register_to_config(force_upcast=bool(files.configs.component("vae").get("force_upcast", False)))
        for module in (*text.models, unet, vae):
            module.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)
            align(module)
        if accelerated:
            accelerate(unet, vae.decoder)
        return cls(
            spec=spec,
            revision=revision_with(files.revision, spec.embeddings),
            facts=spec.facts(),
            text=text,
            unet=unet,
            vae=vae,
            device=torch.device(device),
            dtype=dtype,
        )

    @classmethod
    def load_text(cls, files: ModelFiles, dtype: torch.dtype) -> PromptEncoder:
        """Tokenizer and text model."""
        model = files.load("text_encoder", CLIPTextModel, dtype)
        tokenizer = files.load_tokenizer("tokenizer", CLIPTokenizer, model)
        return PromptEncoder((tokenizer,), (model,), embed_with_one_clip)

    @property
    def latent_channels(self) -> int:
        return self.facts.latent_channels

    @property
    def nbytes(self) -> int:
        """Memory of the weights, and of what was computed from them, in bytes."""
        modules = (*self.text.models, self.unet, self.vae)
        return sum(kept.nbytes for module in modules for kept in chain(module.parameters(), module.buffers()))

    @property
    def decoder_nbytes(self) -> int:
        """Memory of the VAE's weights, in bytes."""
        return sum(weight.nbytes for weight in self.vae.parameters())

    @property
    def is_compiled(self) -> bool:
        return self.compiled_unet is not None

    def compiled(self) -> Self:
        """The same weights with the UNet compiled when it is first called."""
        return replace(self, compiled_unet=compile_unet(self.unet))

    def uncompiled(self) -> Self:
        """The same weights with the UNet as it was loaded."""
        return replace(self, compiled_unet=None)

    def with_attention(self, backends: tuple[SDPBackend, ...]) -> Self:
        """The same weights with these attention kernels, in the order to be tried."""
        return replace(self, attention=backends)

    def move(self, device: str | torch.device) -> None:
        """Take the weights to `device`; the model paints on its own device alone."""
        for module in (*self.text.models, self.unet, self.vae):
            module.to(device)

    def encode(self, recipe: Recipe) -> Conditioning:
        """Embed all prompts; every part that is ignored gets a notice."""
        return self.text.encode(recipe)

    def blank_text(self) -> Conditioning:
        """Embeddings of the right shapes without a meaning, for measuring."""
        tokens = self.text.tokenizers[0].model_max_length
        size = self.unet.config.cross_attention_dim
        embedding = TextEmbedding(torch.zeros(1, tokens, size, dtype=self.dtype, device=self.device))
        return Conditioning(embedding, embedding, ())

    def predict(self, rows: Rows, timestep: torch.Tensor) -> torch.Tensor:
        """The UNet's prediction for every row, fp32, as (branches, tiles, C, h, w). All rows go through in one call."""
        texts = rows.texts()
        # torch.compile would specialise a batch of one tile, and compile for minutes for each length of the text and
        # for tiles of several regions: those run as they were loaded.
        one_chunk = texts[0].states.shape[1] == self.text.tokenizers[0].model_max_length
        use_compiled = self.is_compiled and len(rows.tiles) > 1 and one_chunk and rows.one_text_a_branch
        samples = rows.samples.to(self.dtype, memory_format=torch.channels_last)
        timesteps = timestep.expand(len(rows))
        states = torch.cat([text.states for text in texts])
        added, guidance = self.added_conditions(rows), self._embedded_guidance(rows)
        if use_compiled:
            for tensor in (samples, timesteps, states, guidance, *(added or {}).values()):
                if tensor is not None:
                    torch._dynamo.maybe_mark_dynamic(tensor, 0)
        with chosen_attention(self.attention) if self.attention else contextlib.nullcontext():
            output: torch.Tensor = (self.compiled_unet if use_compiled else self.unet)(
                samples,
                timesteps,
                encoder_hidden_states=states,
                timestep_cond=guidance,
                added_cond_kwargs=added,
                cross_attention_kwargs={"branches": len(rows.branches), "one_text": rows.one_text_a_branch},
                return_dict=False,
            )[0]
        return output.float().unflatten(0, (len(rows.branches), len(rows.tiles)))

    def _embedded_guidance(self, rows: Rows) -> torch.Tensor | None:
        """The guidance scale as a UNet reads it that was distilled to (arXiv 2310.04378, section 4.2), a row each."""
        if not self.facts.embeds_guidance:
            return None
        size = self.unet.config.time_cond_proj_dim
        frequencies = torch.exp(torch.arange(size // 2) * -(math.log(10_000.0) / (size // 2 - 1)))
        angles = torch.tensor([[1000.0 * (scale - 1.0)] for scale in rows.guidance_scales]) * frequencies
        embedding = torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, size % 2))
        return embedding.to(self.device, self.dtype).repeat(len(rows.branches), 1)

    def added_conditions(self, rows: Rows) -> dict[str, torch.Tensor] | None:
        """Further inputs of the UNet, a row each; none for this family."""
        return None

    @property
    def decoder_dtype(self) -> torch.dtype:
        """What the VAE runs in: fp32 where it is known to overflow in fp16 (SDXL's says `force_upcast`)."""
        return torch.float32 if self.dtype == torch.float16 and self.vae.config.force_upcast else self.dtype

    def decode(self, latents: torch.Tensor, *, circular: bool = False) -> torch.Tensor:
        """Latents (1, C, H, W) to pixels (1, 3, H * f, W * f) in about [-1, 1], fp32.

        16-bit decoders can overflow on rare latents; those are decoded again in fp32, and such that are known to do it
        (SDXL's says `force_upcast`) at once.
        """
        scaled = self._unscaled(latents)
        if self.decoder_dtype == self.dtype:
            pixels = self._decode(scaled.to(self.dtype), circular)
            if self.dtype == torch.float32 or bool(pixels.isfinite().all()):
                return pixels
        try:
            self.vae.float()
            return self._decode(scaled.float(), circular)
        finally:
            self.vae.to(self.dtype)

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (n, 3, H, W) in [-1, 1] to latents (n, C, H / f, W / f) of the network, fp32: the VAE's mean.

        A 16-bit encoder that is known to overflow (SDXL's says `force_upcast`) runs in fp32.
        """
        upcast = self.decoder_dtype != self.dtype
        try:
            if upcast:
                self.vae.float()
            return self._scaled(self.run_encoder(pixels.to(self.device, torch.float32 if upcast else self.dtype)))
        finally:
            if upcast:
                self.vae.to(self.dtype)

    def run_encoder(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels in the encoder's dtype to latents in its own scale, fp32, whatever comes out."""
        latents: torch.Tensor = self.vae.encode(pixels).latent_dist.mode()
        return latents.float()

    def _scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of the VAE to those of the network: `_unscaled` the other way round."""
        config = self.vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and deviation is not None:
            by_channel = latents.new_tensor([mean, deviation]).view(2, 1, -1, 1, 1)
            return (latents - by_channel[0]) * config.scaling_factor / by_channel[1]
        return (latents - (config.get("shift_factor") or 0.0)) * config.scaling_factor

    def _unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of the network to those of the VAE."""
        config = self.vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and deviation is not None:
            by_channel = latents.new_tensor([mean, deviation]).view(2, 1, -1, 1, 1)
            return latents * by_channel[1] / config.scaling_factor + by_channel[0]
        return latents / config.scaling_factor + (config.get("shift_factor") or 0.0)

    def _decode(self, latents: torch.Tensor, circular: bool) -> torch.Tensor:
        with contextlib.suppress(torch.OutOfMemoryError):
            return self.run_decoder(latents, circular)
        # Only here are the tensors free that the failed call held.
        torch.cuda.empty_cache()  # what denoising left behind may be free in pieces that are too small
        return self.run_decoder(latents, circular)

    def run_decoder(self, latents: torch.Tensor, circular: bool) -> torch.Tensor:
        """Scaled latents in the decoder's dtype to pixels, fp32, whatever comes out."""
        if self.vae.post_quant_conv is not None:
            latents = self.vae.post_quant_conv(latents)
        return decoder.decode(self.vae.decoder, latents, circular=circular).float()
