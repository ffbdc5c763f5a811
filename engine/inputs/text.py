"""Prompts to text embeddings, by one or several text models."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch

from engine.inputs.chunks import Chunk, Vocabulary, many_chunks, one_chunk
from engine.inputs.notices import Notice
from engine.inputs.prompt_syntax import Reading, embedding_pattern, read_a1111, read_plain
from recipe.errors import FieldError, RecipeError
from recipe.facts import clip_skip_fault
from recipe.fields import Recipe

_CACHED_CHUNKS = 256  # about 160 MB of SDXL's in fp32, a third of it of the others'


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """Of one prompt: a state a token (1, tokens, dim), and for SDXL one of the whole text (1, dim)."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class PromptPair:
    """Embeddings of a prompt and of its negative prompt, of one length."""

    positive: TextEmbedding
    negative: TextEmbedding


@dataclass(frozen=True, slots=True)
class Conditioning(PromptPair):
    """Embeddings of the request's prompts and of each region's, all of one length, and what the user should know."""

    notices: tuple[Notice, ...]
    regions: tuple[PromptPair, ...] = ()


# States of each text model (1, tokens, dim), and for SDXL of the whole text (1, dim)
Encoded = tuple[Sequence[torch.Tensor], torch.Tensor | None]
# From the models, a row of token ids (1, tokens) for each on its device, and the number of layers to skip
Embed = Callable[[Sequence[Any], Sequence[torch.Tensor], int], Encoded]
# The same part of a prompt, as each tokenizer reads it
ChunkPerTokenizer = tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class PromptEncoder:
    """Tokenizers and text models of one model, with a cache: batches repeat their negative prompt, users their prompts.

    `zero_negative`: an empty negative prompt is no text at all, as SDXL was trained, instead of the empty text.
    `embeddings` are the textual inversions of each model: ids of their vectors by lower-case name.
    """

    tokenizers: tuple[Any, ...]
    models: tuple[Any, ...]
    embed: Embed
    zero_negative: bool = False
    embeddings: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    _cache: OrderedDict[tuple[ChunkPerTokenizer, int], TextEmbedding] = field(default_factory=OrderedDict, repr=False)

    def encode(self, recipe: Recipe) -> Conditioning:
        """Embed all prompts, the shorter ones padded with empty chunks. Every part that is ignored gets a notice.

        Raises:
            RecipeError: when `clip_skip` leaves no layer.
        """
        self._check_clip_skip(recipe.clip_skip)
        negative_skip = 0 if recipe.prompt_syntax == "plain" else recipe.clip_skip  # diffusers, AUTOMATIC1111
        texts = _texts(recipe)
        read = {path: self._chunks(text, path, recipe.prompt_syntax) for path, text in texts.items()}
        length = max(len(chunks) for chunks, _ in read.values())

        def pair(path: str, negative_path: str) -> PromptPair:
            negative = self._embedding(read[negative_path][0], length, negative_skip)
            if self.zero_negative and not texts[negative_path]:
                negative = zeros_like(negative)
            return PromptPair(self._embedding(read[path][0], length, recipe.clip_skip), negative)

        own = pair("prompt", "negative_prompt")
        regions = []
        for index in range(len(recipe.regions)):
            negative_path = f"regions/{index}/negative_prompt"
            regions.append(
                pair(f"regions/{index}/prompt", negative_path if negative_path in texts else "negative_prompt")
            )
        notices = tuple(notice for _, of_text in read.values() for notice in of_text)
        return Conditioning(own.positive, own.negative, notices, tuple(regions))

    @property
    def max_clip_skip(self) -> int:
        """One layer of each model must be left. SDXL, with two models, never uses their last layer."""
        return min(int(model.config.num_hidden_layers) for model in self.models) - len(self.models)

    def _check_clip_skip(self, skipped: int) -> None:
        if fault := clip_skip_fault(skipped, self.max_clip_skip):
            raise RecipeError((FieldError("clip_skip", fault),))

    @property
    def _vocabularies(self) -> tuple[Vocabulary, ...]:
        embeddings = self.embeddings or ({},) * len(self.tokenizers)
        return tuple(map(Vocabulary, self.tokenizers, embeddings))

    def _chunks(self, text: str, name: str, syntax: str) -> tuple[list[ChunkPerTokenizer], tuple[Notice, ...]]:
        """The chunks of a text, and notices of what is ignored. `name` is the name of its field."""
        known = self.embeddings[0] if self.embeddings else {}
        names = embedding_pattern(known, syntax)
        reading = read_plain(text, name) if syntax == "plain" else read_a1111(text, name, known)
        split = [_split(vocabulary, reading, names, syntax) for vocabulary in self._vocabularies]
        notices = reading.notices + _cut_notice(self._vocabularies[0], *split[0], name, syntax)
        rows = [tuple(row) for row in zip_longest(*(chunks for chunks, _ in split), fillvalue=Chunk())]
        return rows, notices

    def _embedding(self, chunks: Sequence[ChunkPerTokenizer], length: int, clip_skip: int) -> TextEmbedding:
        """Concatenate the states of the chunks, padded to `length` with empty ones. `pooled` is the first chunk's."""
        empty = (Chunk(),) * len(self.models)
        parts = [self._cached(chunk, clip_skip) for chunk in [*chunks, *[empty] * (length - len(chunks))]]
        if length == 1:
            return parts[0]
        return TextEmbedding(torch.cat([part.states for part in parts], 1), parts[0].pooled)

    def _cached(self, chunk: ChunkPerTokenizer, clip_skip: int) -> TextEmbedding:
        key = (chunk, clip_skip)
        if key not in self._cache:
            self._cache[key] = self._embed(chunk, clip_skip)
        self._cache.move_to_end(key)
        if len(self._cache) > _CACHED_CHUNKS:
            self._cache.popitem(last=False)
        return self._cache[key]

    def _embed(self, chunk: ChunkPerTokenizer, clip_skip: int) -> TextEmbedding:
        each = list(zip(self._vocabularies, chunk, self.models, strict=True))
        rows = [torch.tensor([vocabulary.row(part)], device=model.device) for vocabulary, part, model in each]
        states, pooled = self.embed(self.models, rows, clip_skip)
        weighted = [
            weigh(of_model, vocabulary.row_weights(part)) if part.weighted else of_model
            for of_model, (vocabulary, part, _) in zip(states, each, strict=True)
        ]
        return TextEmbedding(torch.cat(weighted, -1), pooled)


def _texts(recipe: Recipe) -> dict[str, str]:
    """All prompts by the paths of their fields; a region's negative prompt only where it is not the request's."""
    texts = {"prompt": recipe.prompt, "negative_prompt": recipe.negative_prompt}
    for index, region in enumerate(recipe.regions):
        texts[f"regions/{index}/prompt"] = region.prompt
        if region.negative_prompt != recipe.negative_prompt:
            texts[f"regions/{index}/negative_prompt"] = region.negative_prompt
    return texts


def _split(
    vocabulary: Vocabulary, reading: Reading, names: re.Pattern[str] | None, syntax: str
) -> tuple[list[Chunk], list[int]]:
    """The chunks of a text, and the tokens beyond the last one."""
    sections = (vocabulary.pieces(section, names) for section in reading.sections)
    if syntax == "plain":
        return one_chunk(next(sections), vocabulary.limit)
    comma = vocabulary.ids(",")
    return many_chunks(sections, vocabulary.limit, comma[0] if len(comma) == 1 else None)


def _cut_notice(
    vocabulary: Vocabulary, chunks: Sequence[Chunk], lost: Sequence[int], name: str, syntax: str
) -> tuple[Notice, ...]:
    if not lost:
        return ()
    read = sum(len(chunk.ids) for chunk in chunks)
    detail = (
        f"{name} has {read + len(lost)} tokens and the model reads {read}; this was left out: {vocabulary.text(lost)!r}"
    )
    if syntax == "plain":
        detail += '; prompt_syntax "a1111" reads longer prompts'
    return (Notice("prompt-truncated", detail),)


def embed_with_one_clip(models: Sequence[Any], token_ids: Sequence[torch.Tensor], clip_skip: int) -> Encoded:
    """A layer of one CLIP text model, normalised: Stable Diffusion 1.x and 2.x."""
    (model,), (ids,) = models, token_ids
    if not clip_skip:
        return [model(ids, return_dict=False)[0]], None
    skipped = model(ids, output_hidden_states=True).hidden_states[-1 - clip_skip]
    inner = getattr(model, "text_model", model)  # older versions of transformers nest it
    return [inner.final_layer_norm(skipped)], None


def embed_with_two_clips(models: Sequence[Any], token_ids: Sequence[torch.Tensor], clip_skip: int) -> Encoded:
    """The last but one layer of both encoders (arXiv 2307.01952, section 2.1), or one before it; not normalised."""
    outputs = [model(ids, output_hidden_states=True) for model, ids in zip(models, token_ids, strict=True)]
    return [output.hidden_states[-2 - clip_skip] for output in outputs], outputs[-1].text_embeds


def weigh(states: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Multiply each token's state (1, tokens, dim) by its weight, then restore the mean of all states.

    AUTOMATIC1111's web UI restores the mean by this quotient. Where the mean is only a rounding error, the quotient
    would be noise and is not applied.
    """
    plain = states.float()
    weighted = plain * torch.tensor(weights, device=states.device)[None, :, None]
    mean, new_mean = plain.mean(), weighted.mean()
    if min(abs(mean), abs(new_mean)) > 1e-4 * plain.std():
        weighted = weighted * (mean / new_mean)
    return weighted.to(states.dtype)


def zeros_like(embedding: TextEmbedding) -> TextEmbedding:
    """Of the same shapes, without any text."""
    pooled = None if embedding.pooled is None else torch.zeros_like(embedding.pooled)
    return TextEmbedding(torch.zeros_like(embedding.states), pooled)
