"""Split words into chunks of tokens: a CLIP text encoder reads 77 places, two of which are its marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.inputs.prompt_syntax import Section

# Maximum number of chunks of a prompt; 2,000 characters of English are about 6.
MAX_CHUNKS = 8
# A full chunk ends after its last comma if at most this many tokens follow: AUTOMATIC1111's default.
_COMMA_REACH = 20

# Tokens that are never split, and their weight: one token, or all vectors of a textual inversion
Piece = tuple[tuple[int, ...], float]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The tokens of one row, without its marks and padding, and their weights."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    @property
    def weighted(self) -> bool:
        return any(weight != 1.0 for weight in self.weights)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer, and the ids of its text encoder's textual inversions by lower-case name."""

    tokenizer: Any
    embeddings: Mapping[str, tuple[int, ...]]

    @property
    def limit(self) -> int:
        """Maximum number of tokens of a chunk."""
        return int(self.tokenizer.model_max_length) - 2

    def ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def pieces(self, section: Section, names: re.Pattern[str] | None) -> Iterable[Piece]:
        """Tokenize a section. `names` matches textual inversions, with the name as group `name`."""
        for words in section:
            position = 0
            for match in names.finditer(words.text) if names else ():
                yield from self._tokens(words.text[position : match.start()], words.weight)
                yield self.embeddings[match["name"].lower()], words.weight
                position = match.end()
            yield from self._tokens(words.text[position:], words.weight)

    def _tokens(self, text: str, weight: float) -> Iterable[Piece]:
        return (((token,), weight) for token in self.ids(text))

    def row(self, chunk: Chunk) -> list[int]:
        """Token ids as the encoder reads them: start mark, chunk, end mark, padding."""
        ids = [self.tokenizer.bos_token_id, *chunk.ids, self.tokenizer.eos_token_id]
        return ids + [self.tokenizer.pad_token_id] * (self.limit + 2 - len(ids))

    def row_weights(self, chunk: Chunk) -> list[float]:
        """The weight of each token of `row`."""
        return [1.0, *chunk.weights, *[1.0] * (self.limit + 1 - len(chunk.weights))]

    def text(self, ids: Sequence[int]) -> str:
        """Decode tokens for a message."""
        names = {vectors[0]: f"<{name}>" for name, vectors in self.embeddings.items()}
        known = len(self.tokenizer)
        words = [names.get(i, "") if i >= known else self.tokenizer.decode([i]) for i in ids]
        return " ".join(filter(None, words)) if names else str(self.tokenizer.decode(list(ids)))


def one_chunk(pieces: Iterable[Piece], limit: int) -> tuple[list[Chunk], list[int]]:
    """Return the first `limit` tokens as one chunk, and the remaining ones."""
    whole = _chunk(list(pieces))
    return [Chunk(whole.ids[:limit], whole.weights[:limit])], list(whole.ids[limit:])


def many_chunks(sections: Iterable[Iterable[Piece]], limit: int, comma: int | None) -> tuple[list[Chunk], list[int]]:
    """Split each section into chunks, at most `MAX_CHUNKS` in total, and return the remaining tokens.

    A full chunk ends after a comma if one is near its end. An empty last section makes no chunk.
    """
    chunks = [_split(list(section), limit, comma) or [Chunk()] for section in sections]
    if len(chunks) > 1 and chunks[-1] == [Chunk()]:
        chunks.pop()
    flat = [chunk for section in chunks for chunk in section]
    return flat[:MAX_CHUNKS], [token for chunk in flat[MAX_CHUNKS:] for token in chunk.ids]


def _split(pieces: Sequence[Piece], limit: int, comma: int | None) -> list[Chunk]:
    done: list[Chunk] = []
    current: list[Piece] = []
    for piece in pieces:
        if _length(current) == limit and piece[0] != (comma,):
            end = _after_last_comma(current, comma)
            done.append(_chunk(current[:end]))
            current = current[end:]
        if _length(current) + len(piece[0]) > limit:
            done.append(_chunk(current))
            current = []
        current.append(piece)
    return [*done, _chunk(current)] if current else done


def _after_last_comma(pieces: Sequence[Piece], comma: int | None) -> int:
    """The number of pieces up to the last comma if that is near the end, else all of them."""
    places = [index for index, piece in enumerate(pieces) if piece[0] == (comma,)]
    near = places and _length(pieces[places[-1] :]) <= _COMMA_REACH
    return places[-1] + 1 if near else len(pieces)


def _length(pieces: Sequence[Piece]) -> int:
    return sum(len(ids) for ids, _ in pieces)


def _chunk(pieces: Sequence[Piece]) -> Chunk:
    ids = tuple(token for ids, _ in pieces for token in ids)
    return Chunk(ids, tuple(weight for ids, weight in pieces for _ in ids))
