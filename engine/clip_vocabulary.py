"""CLIP's tokenizer from the merges that are shipped, for one-file checkpoints: those hold no vocabulary."""

from __future__ import annotations

from typing import Any

from recipe.packaged import CLIP_MERGES

LENGTH = 77


def clip_tokenizer(kind: Any, *, pad_token: str) -> Any:
    """A tokenizer of transformers' class `kind` with CLIP's 49,408 tokens.

    OpenAI's text models were trained with the end as padding, `<|endoftext|>`; open_clip's with zeros, which is `!`.
    """
    lines = CLIP_MERGES.read_text(encoding="utf-8").splitlines()[1:]
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    letters = _letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return kind(vocab=vocabulary, merges=merges, pad_token=pad_token, model_max_length=LENGTH)


def _letters() -> list[str]:
    """A printable letter for each byte: those that are printable in Latin-1 first, then the rest from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]
