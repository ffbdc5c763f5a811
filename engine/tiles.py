"""What one call of the network is asked: tiles, each once for every branch of the guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.inputs.text import TextEmbedding
from recipe.views import View


@dataclass(frozen=True, slots=True)
class Tile:
    """A view together with the region of the canvas that it is painted for and its fusion weight.

    Regions are counted from 1; 0 is what no region covers. `weight` (window, window), fp32, is the window's weight
    times the region's mask over this view. `ground` is the number of the plain ground that lies behind the region
    (`engine.inputs.grounds`), None where the network sees the canvas itself.
    """

    view: View
    weight: torch.Tensor
    region: int = 0
    ground: int | None = None


# The text of every region in one branch of the guidance: the prompts, or the negative prompts
Branch = Sequence[TextEmbedding]


@dataclass(frozen=True, slots=True)
class Rows:
    """The batch of one network call, branch by branch: row `b * len(tiles) + i` is tile i in branch b.

    `crops` (n, C, h, w) are the tiles' parts of the canvas, each once; `canvas` its height and width in latent cells.
    `guidance_scales`, of each tile, are an input of some models (`ModelFacts.embeds_guidance`).
    """

    crops: torch.Tensor
    tiles: Sequence[Tile]
    branches: Sequence[Branch]
    canvas: tuple[int, int]
    guidance_scales: Sequence[float]

    def __len__(self) -> int:
        return len(self.tiles) * len(self.branches)

    @property
    def samples(self) -> torch.Tensor:
        """Crops of all rows (rows, C, h, w)."""
        return torch.cat([self.crops] * len(self.branches))

    @property
    def one_text_a_branch(self) -> bool:
        """Whether all tiles of a branch read the same text, so that its keys and values are needed once."""
        return len({tile.region for tile in self.tiles}) == 1

    def texts(self) -> list[TextEmbedding]:
        """The text of each row."""
        return [branch[tile.region] for branch in self.branches for tile in self.tiles]
