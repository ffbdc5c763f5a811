"""Stable Diffusion XL: two CLIP text models, and a UNet that is told where on the picture a view lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.text import Conditioning, PromptEncoder, TextEmbedding, embed_with_two_clips
from engine.tiles import Rows


@dataclass(frozen=True, slots=True)
class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (arXiv 2307.01952)."""

    components: ClassVar[Mapping[str, str | None]] = {
        **StableDiffusion.components,
        "text_encoder_2": "CLIPTextModelWithProjection",
    }

    @classmethod
    def load_text(cls, folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> PromptEncoder:
        """Both tokenizers and text models."""
        kinds = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}
        return PromptEncoder(
            tuple(CLIPTokenizer.from_pretrained(folder, subfolder=f"tokenizer{end}") for end in kinds),
            tuple(
                kind.from_pretrained(folder, subfolder=f"text_encoder{end}", use_safetensors=True, dtype=dtype)
                for end, kind in kinds.items()
            ),
            embed_with_two_clips,
            zero_negative=bool(index.get("force_zeros_for_empty_prompt", False)),
        )

    def blank_text(self) -> Conditioning:
        """Embeddings of the right shapes without a meaning, for measuring."""
        blank = StableDiffusion.blank_text(self)
        size = self.text.models[-1].config.projection_dim
        pooled = torch.zeros(1, size, dtype=self.dtype, device=self.device)
        embedding = TextEmbedding(blank.positive.states, pooled)
        return replace(blank, positive=embedding, negative=embedding)

    def added_conditions(self, rows: Rows) -> dict[str, torch.Tensor] | None:
        """Of each view, which part of the whole picture it is (section 2.2), and the embedding of its whole text."""
        factor, window = self.facts.latent_factor, self.facts.window_px
        height, width = rows.canvas[0] * factor, rows.canvas[1] * factor
        views = [tile.view for tile in rows.tiles]
        sizes = [(height, width, view.top * factor, view.left * factor, window, window) for view in views]
        time_ids = torch.tensor(sizes * len(rows.branches), dtype=self.dtype)
        return {
            "text_embeds": torch.cat([_pooled(text) for text in rows.texts()]),
            "time_ids": time_ids.to(self.device, non_blocking=True),
        }


def _pooled(text: TextEmbedding) -> torch.Tensor:
    assert text.pooled is not None, "SDXL's prompts have an embedding of the whole text"
    return text.pooled
