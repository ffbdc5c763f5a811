"""Prompts to text embeddings, by one or several text models."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from recipe.fields import Recipe

_CACHED_PROMPTS = 256  # about 160 MB of SDXL's in fp32, a third of it of the others'


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
class PromptEncoder:
    """Tokenizers and text models of one model, with a cache: batches repeat their negative prompt, users their prompts.

    `embed` makes an embedding of a prompt's token ids (1, tokens), one tensor a tokenizer, each on its model's device.
    `zero_negative`: an empty negative prompt is no text at all, as SDXL was trained, instead of the empty text.
    """

    tokenizers: tuple[Any, ...]
    models: tuple[Any, ...]
    embed: Callable[[Sequence[Any], Sequence[torch.Tensor]], TextEmbedding]
    zero_negative: bool = False
    _cache: OrderedDict[str, TextEmbedding] = field(default_factory=OrderedDict, repr=False)

    def encode(self, recipe: Recipe) -> Conditioning:
        """Embed both prompts; a prompt longer than the encoder reads is cut with a notice, never in silence."""
        positive = self._cached(recipe.prompt)
        negative = self._cached(recipe.negative_prompt)
        if self.zero_negative and not recipe.negative_prompt:
            negative = zeros_like(negative)
        notices = self._cut_notice(recipe.prompt, "prompt")
        notices += self._cut_notice(recipe.negative_prompt, "negative_prompt")
        return Conditioning(positive, negative, notices)

    def _cached(self, text: str) -> TextEmbedding:
        if text in self._cache:
            self._cache.move_to_end(text)
            return self._cache[text]
        embedding = self.embed(self.models, [self._token_ids(index, text) for index in range(len(self.models))])
        self._cache[text] = embedding
        if len(self._cache) > _CACHED_PROMPTS:
            self._cache.popitem(last=False)
        return embedding

    def _token_ids(self, index: int, text: str) -> torch.Tensor:
        tokenizer = self.tokenizers[index]
        ids: torch.Tensor = tokenizer(
            text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids
        return ids.to(self.models[index].device)

    def _cut_notice(self, text: str, name: str) -> tuple[Notice, ...]:
        tokenizer = self.tokenizers[0]
        limit = tokenizer.model_max_length - 2  # two of the places are the start and end marks
        tokens = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        if len(tokens) <= limit:
            return ()
        lost = tokenizer.decode(tokens[limit:])
        detail = f"{name} has {len(tokens)} tokens and the model reads {limit}; this was left out: {lost!r}"
        return (Notice("prompt-truncated", detail),)


def embed_with_one_clip(models: Sequence[Any], token_ids: Sequence[torch.Tensor]) -> TextEmbedding:
    """The last layer of one CLIP text model, normalised: Stable Diffusion 1.x and 2.x."""
    return TextEmbedding(models[0](token_ids[0], return_dict=False)[0])


def embed_with_two_clips(models: Sequence[Any], token_ids: Sequence[torch.Tensor]) -> TextEmbedding:
    """The last but one layer of both encoders side by side (arXiv 2307.01952, section 2.1)."""
    outputs = [model(ids, output_hidden_states=True) for model, ids in zip(models, token_ids, strict=True)]
    states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return TextEmbedding(states, outputs[-1].text_embeds)


def zeros_like(embedding: TextEmbedding) -> TextEmbedding:
    """Of the same shapes, without any text."""
    pooled = None if embedding.pooled is None else torch.zeros_like(embedding.pooled)
    return TextEmbedding(torch.zeros_like(embedding.states), pooled)
