"""Stable Diffusion XL: two CLIP text models, and a UNet with the view's place on the picture as an input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engine.families.stable_diffusion import StableDiffusion
from engine.files import ModelFiles
from engine.inputs.text import Conditioning, PromptEncoder, TextEmbedding, embed_with_two_clips
from engine.tiles import Rows


@dataclass(frozen=True, slots=True)
class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (arXiv 2307.01952)."""

    @classmethod
    def load_text(cls, files: ModelFiles, dtype: torch.dtype) -> PromptEncoder:
        """Both tokenizers and text models."""
        models = (
            files.load("text_encoder", CLIPTextModel, dtype),
            files.load("text_encoder_2", CLIPTextModelWithProjection, dtype),
        )
        tokenizers = (
            files.load_tokenizer("tokenizer", CLIPTokenizer, models[0]),
            files.load_tokenizer("tokenizer_2", CLIPTokenizer, models[1]),
        )
        # What diffusers' pipeline assumes where the index does not say.
        zero_negative = bool(files.configs.index.get("force_zeros_for_empty_prompt", True))
        return PromptEncoder(tokenizers, models, embed_with_two_clips, zero_negative=zero_negative)

    def blank_text(self) -> Conditioning:
        """Embeddings of the right shapes without a meaning, for measuring."""
        blank = StableDiffusion.blank_text(self)
        size = self.text.models[-1].config.projection_dim
        pooled = torch.zeros(1, size, dtype=self.dtype, device=self.device)
        embedding = TextEmbedding(blank.positive.states, pooled)
        return replace(blank, positive=embedding, negative=embedding)

    def added_conditions(self, rows: Rows) -> dict[str, torch.Tensor] | None:
        """For each row, which part of the picture its view is (section 2.2), and the embedding of the whole text."""
        factor, window = self.facts.latent_factor, self.facts.window_px
        height, width = rows.canvas[0] * factor, rows.canvas[1] * factor
        views = [tile.view for tile in rows.tiles]
        sizes = [(height, width, view.top * factor, view.left * factor, window, window) for view in views]
        # In fp32: bfloat16 holds no odd multiple of 8 beyond 2048.
        time_ids = torch.tensor(sizes * len(rows.branches), dtype=torch.float32)
        return {
            "text_embeds": torch.cat([_pooled(text) for text in rows.texts()]),
            "time_ids": time_ids.to(self.device, non_blocking=True),
        }


def _pooled(text: TextEmbedding) -> torch.Tensor:
    assert text.pooled is not None, "SDXL's prompts have an embedding of the whole text"
    return text.pooled
