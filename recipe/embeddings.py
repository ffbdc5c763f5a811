"""An allow-list of textual inversions (arXiv 2208.01618): files by the names that prompts call them by."""

from __future__ import annotations

import re
from collections.abc import Mapping

from recipe.errors import ModelError

# A word of a prompt.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")


def parse_embeddings(text: str) -> dict[str, str]:
    """Read an allow-list of textual inversions: `cat=/embeddings/cat.safetensors,other=...`.

    Raises:
        ModelError: when an entry cannot be read.
    """
    entries = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    embeddings = {name: path for name, _, path in entries}
    if len(embeddings) < len(entries):
        raise ModelError("the list of embeddings holds a name twice")
    check_embeddings(embeddings)
    return embeddings


def check_embeddings(embeddings: Mapping[str, str]) -> None:
    """Check names and paths, not the files: only a worker has to have them.

    Raises:
        ModelError: naming the first embedding at fault.
    """
    if not isinstance(embeddings, Mapping):
        raise ModelError(f"embeddings must be an object of names and .safetensors files, not {embeddings!r}")
    for name, path in embeddings.items():
        if not _NAME.fullmatch(name):
            raise ModelError(f"embedding {name!r}: a name is up to 64 letters, digits, dots, dashes and underscores")
        if not isinstance(path, str) or not path.endswith(".safetensors"):
            raise ModelError(f"embedding {name!r}: {path!r} is no .safetensors file; other kinds can run code")
    if len({name.lower() for name in embeddings}) < len(embeddings):
        raise ModelError("two embeddings have names that differ in case alone; prompts are read without case")
