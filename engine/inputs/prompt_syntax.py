"""Parse prompts as AUTOMATIC1111's web UI does: weights, `BREAK`, tags. No tokenizer and no tensor here.

The rules are those of its wiki page "Features", so that a pasted prompt has the same meaning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from engine.inputs.notices import Notice

_ROUND, _SQUARE = 1.1, 1 / 1.1
# A weight beyond it overflows 16 bits or drowns every other word.
MAX_WEIGHT = 10.0
# Products of nested weights stay finite, so that infinity times 0 does not become NaN.
_FINITE = 1e9

_MARKUP = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\]?)                                     # a backslash alone is left out
  | (?P<open>[(\[])
  | :\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)
  | (?P<close>[)\]])
  | \s*\b(?P<break>BREAK)\b\s*
    """,
    re.VERBOSE,
)
_TAG = re.compile(r"<\w+:[^<>]*>")  # <lora:name:1>, <hypernet:name:1>
# Prompt editing ([from:to:when], [this|that]) and composition (AND)
_SCHEDULE = re.compile(r"(?<!\\)\[[^\[\]]*(?::\s*[\d.]+\s*|\|[^\[\]]*)\]|\bAND\b")
_EMBEDDING = re.compile(r"\bembedding:(?P<name>[\w.-]*\w)", re.ASCII | re.IGNORECASE)
_LOOKS_LIKE_SYNTAX = re.compile(
    r"""
    \([^()]*:\s*[+-]?[\d.]+\s*\)         # (word:1.4)
  | \({2,}[^()]*\){2,} | \[{2,}[^\[\]]*\]{2,}
  | \\[()\[\]]
  | \bBREAK\b
  | \bembedding:[\w.-]+
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Words:
    """A run of text with one weight."""

    text: str
    weight: float = 1.0


# The text between two BREAKs
Section = list[Words]


@dataclass(frozen=True, slots=True)
class Reading:
    """A parsed prompt, and notices of the parts that are ignored."""

    sections: Sequence[Section]
    notices: tuple[Notice, ...] = ()


def read_plain(text: str, name: str) -> Reading:
    """Take the whole text as words, with a notice where it looks like markup. `name` is the name of its field."""
    notices = []
    if found := _first_few(_LOOKS_LIKE_SYNTAX.finditer(text)):
        detail = f'{name} was read as plain words, including {found}; prompt_syntax "a1111" reads this as markup'
        notices.append(Notice("prompt-syntax-ignored", detail))
    if found := _first_few(_TAG.finditer(text)):
        detail = f"{name} was read as plain words, including {found}: a prompt cannot select a LoRA or a hypernetwork"
        notices.append(Notice("prompt-syntax-ignored", detail))
    return Reading([[Words(text)]], tuple(notices))


def read_a1111(text: str, name: str, embeddings: Collection[str] = ()) -> Reading:
    """Parse weights and BREAK. Tags, and textual inversions that are not in `embeddings`, are removed with a notice."""
    notices = []
    if found := _first_few(_TAG.finditer(text)):
        detail = f"{found} was removed from {name}: a prompt cannot select a LoRA or a hypernetwork"
        notices.append(Notice("prompt-syntax-ignored", detail))
        text = _TAG.sub("", text)
    unknown = [match for match in _EMBEDDING.finditer(text) if match["name"].lower() not in embeddings]
    if unknown:
        detail = f"{_first_few(unknown)} was removed from {name}: this model has no such textual inversion"
        notices.append(Notice("prompt-embedding-unknown", detail))
        for match in reversed(unknown):
            text = text[: match.start()] + text[match.end() :]
    if found := _first_few(_SCHEDULE.finditer(text)):
        detail = f"{found} in {name} was read as words: [from:to:when], [this|that] and AND are not supported"
        notices.append(Notice("prompt-syntax-ignored", detail))
    sections = parse_weights(text)
    heaviest = max((abs(words.weight) for section in sections for words in section), default=1.0)
    if heaviest > MAX_WEIGHT:
        detail = f"{name} has a weight of {heaviest:.4g}; weights are limited to {MAX_WEIGHT:g}"
        notices.append(Notice("prompt-weight-limited", detail))
        sections = [
            [replace(words, weight=_limited(words.weight, MAX_WEIGHT)) for words in section] for section in sections
        ]
    return Reading(sections, tuple(notices))


def embedding_pattern(embeddings: Collection[str], syntax: str) -> re.Pattern[str] | None:
    """Match the textual inversions in a prompt, with the name as group `name`. None if the model has none.

    Plain text has `<name>`, as in diffusers; "a1111" also the bare name, as there, and ComfyUI's `embedding:name`.
    """
    if not embeddings:
        return None
    longest_first = sorted(embeddings, key=len, reverse=True)
    # ASCII only: case-insensitive matching would also accept letters such as the long s.
    names = f"(?P<name>(?ai:{'|'.join(map(re.escape, longest_first))}))"
    return re.compile(f"<{names}>" if syntax == "plain" else rf"<?(?i:\bembedding:)?(?<![\w.-]){names}(?![.-]?\w)>?")


def _first_few(matches: Iterable[re.Match[str]]) -> str:
    """Quote the first three matches for a message; empty if there are none."""
    found = list(dict.fromkeys(match[0] for match in matches))
    return ", ".join(repr(each[:60]) for each in found[:3]) + (" and others" if len(found) > 3 else "")


def _limited(weight: float, most: float) -> float:
    return min(max(weight, -most), most)


def parse_weights(text: str) -> list[Section]:
    """Split a prompt into sections, and each into runs of words of one weight. Sections may be empty.

    A bracket that is never closed reaches to the end of the text; one that was never opened is a word.
    """
    runs = _Runs()
    position = 0
    for match in _MARKUP.finditer(text):
        runs.add(text[position : match.start()])
        runs.markup(match)
        position = match.end()
    runs.add(text[position:])
    return runs.close()


class _Runs:
    """The parsed runs, with None for a BREAK, and the positions of brackets that are still open."""

    def __init__(self) -> None:
        self._runs: list[Words | None] = []
        self._opened: dict[str, list[int]] = {"(": [], "[": []}

    def add(self, text: str) -> None:
        if text:
            self._runs.append(Words(text))

    def markup(self, match: re.Match[str]) -> None:
        if match["escaped"] is not None:
            self.add(match["escaped"])
        elif match["break"]:
            self._runs.append(None)
        elif match["open"]:
            self._opened[match["open"]].append(len(self._runs))
        elif self._opened["[" if match["close"] == "]" else "("]:
            self._close_bracket(match)
        else:
            self.add(match[0])

    def _close_bracket(self, match: re.Match[str]) -> None:
        if match["close"] == "]":
            self._weigh(self._opened["["].pop(), _SQUARE)
        else:
            self._weigh(self._opened["("].pop(), _limited(float(match["weight"] or _ROUND), _FINITE))

    def _weigh(self, start: int, factor: float) -> None:
        for index in range(start, len(self._runs)):
            if (run := self._runs[index]) is not None:
                self._runs[index] = replace(run, weight=_limited(run.weight * factor, _FINITE))

    def close(self) -> list[Section]:
        """Brackets that are still open reach to the end."""
        for bracket, factor in (("(", _ROUND), ("[", _SQUARE)):
            for start in self._opened[bracket]:
                self._weigh(start, factor)
        return _sections(self._runs)


def _sections(runs: Sequence[Words | None]) -> list[Section]:
    sections: list[Section] = [[]]
    for run in runs:
        section = sections[-1]
        if run is None:
            sections.append([])
        elif section and section[-1].weight == run.weight:
            section[-1] = Words(section[-1].text + run.text, run.weight)
        else:
            section.append(run)
    return sections
