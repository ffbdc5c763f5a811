"""CLIP's tokenizer with a small vocabulary of its own: every byte, and the captions' words merged to one token."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

from transformers import CLIPTokenizer

from . import captions, config

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 420
LENGTH = 77  # tokens, as every Stable Diffusion prompt
FOLDER = config.RUNS / "tokenizer"
# Words that users write and the captions do not; knowing them as whole tokens costs little and shortens prompts.
EXTRA = (
    "photo of the a with and beautiful scenic landscape panorama panoramic wide view high quality detailed "
    "evening afternoon daytime sunny moonlight moonlit sunlight golden pink purple orange blue green white "
    "river coast beach island valley peak ridge snow storm rain fog mist cloud clouds tower buildings lights"
)


def byte_letters() -> list[str]:
    """The 256 printable characters that stand for the bytes in byte-level BPE, in CLIP's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def learn_merges(words: Counter[str], count: int) -> list[tuple[str, str]]:
    """The first `count` byte-pair merges of `words`; a word's last letter carries CLIP's end mark `</w>`."""
    pieces = {word: (*word[:-1], word[-1] + "</w>") for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merge(parts, best) for word, parts in pieces.items()}
    return merges


def _merge(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def build(folder: Path = FOLDER) -> CLIPTokenizer:
    """Learns the vocabulary from example captions and writes the tokenizer's files."""
    words = Counter(re.findall(r"[a-z]+", " ".join(captions.examples(20_000)).lower()))
    words.update(EXTRA.split())
    merges = learn_merges(words, MERGES)
    letters = byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=LENGTH,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def load(folder: Path = FOLDER) -> CLIPTokenizer:
    """The tokenizer from its files."""
    return CLIPTokenizer.from_pretrained(folder)


def train(settings: config.Settings) -> None:
    """The stage: writes the files if they are not there."""
    if not (FOLDER / "tokenizer_config.json").exists():
        config.log("tokenizer", vocabulary=len(build()))
