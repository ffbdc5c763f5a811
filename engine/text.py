"""Prompts to text embeddings: one CLIP encoder for Stable Diffusion 1.x and 2.x, two for SDXL."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch

_CACHED_PROMPTS = 256  # of SDXL in fp32 about 160 MB, of the others a third of it


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know of a picture that was painted all the same."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """Of one prompt: a state a token (1, tokens, dim), and for SDXL one of the whole text (1, dim)."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Embeddings of the prompt and of the negative prompt."""

    positive: TextEmbedding
    negative: TextEmbedding
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class TextEncoders:
    """Tokenizers and CLIP text models of one Stable Diffusion: a pair, or two pairs for SDXL.

    `zero_negative`: an empty negative prompt is no text at all, as SDXL was trained, instead of the empty text.
    Embeddings are kept by prompt: batches repeat their negative prompt, and users their prompts.
    """

    tokenizers: tuple[Any, ...]
    models: tuple[Any, ...]
    zero_negative: bool = False
    _known: OrderedDict[str, TextEmbedding] = field(default_factory=OrderedDict, repr=False)

    @property
    def is_xl(self) -> bool:
        return len(self.models) > 1

    def encode(self, prompt: str, negative_prompt: str) -> Conditioning:
        """Embed both prompts; a prompt longer than the encoder reads is cut with a notice, never in silence."""
        positive = self._embed(prompt)
        negative = self._embed(negative_prompt)
        if self.zero_negative and not negative_prompt:
            negative = TextEmbedding(
                torch.zeros_like(negative.states),
                None if negative.pooled is None else torch.zeros_like(negative.pooled),
            )
        notices = self._cut_notice(prompt, "prompt") + self._cut_notice(negative_prompt, "negative_prompt")
        return Conditioning(positive, negative, notices)

    def _embed(self, text: str) -> TextEmbedding:
        if text in self._known:
            self._known.move_to_end(text)
            return self._known[text]
        embedding = self._embed_xl(text) if self.is_xl else self._embed_one(text)
        self._known[text] = embedding
        if len(self._known) > _CACHED_PROMPTS:
            self._known.popitem(last=False)
        return embedding

    def _embed_one(self, text: str) -> TextEmbedding:
        return TextEmbedding(self.models[0](self._tokens(0, text), return_dict=False)[0])

    def _embed_xl(self, text: str) -> TextEmbedding:
        """The last but one layer of both encoders side by side (arXiv 2307.01952, section 2.1)."""
        outputs = [
            model(self._tokens(index, text), output_hidden_states=True) for index, model in enumerate(self.models)
        ]
        return TextEmbedding(
            torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1].text_embeds
        )

    def _tokens(self, index: int, text: str) -> torch.Tensor:
        tokenizer = self.tokenizers[index]
        tokens = tokenizer(
            text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids
        return tokens.to(self.models[index].device)

    def _cut_notice(self, text: str, name: str) -> tuple[Notice, ...]:
        tokenizer = self.tokenizers[0]
        limit = tokenizer.model_max_length - 2  # two of the places are the start and end marks
        tokens = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        if len(tokens) <= limit:
            return ()
        lost = tokenizer.decode(tokens[limit:])
        detail = f"{name} has {len(tokens)} tokens and the model reads {limit}; this was left out: {lost!r}"
        return (Notice("prompt-truncated", detail),)
