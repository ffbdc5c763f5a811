"""A small classifier that says what a picture shows: biome, time of day, weather. It learns from drawn scenes alone.

It reads the linear patch code of a picture (`code.py`) instead of its pixels: the code is the same for a drawn and for
a painted picture, and the scenes that the UNet learned from are on disk in it.
"""

import itertools
import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import config, latents
from .attributes import BIOMES, TIMES, WEATHERS, Scene

FILE = config.RUNS / "judge.pt"
HEADS = {"biome": BIOMES, "time": TIMES, "weather": WEATHERS}
HELD_OUT = 200  # the last scenes, which tell the judge's own accuracy
STEPS, BATCH, RATE = 1500, 32, 2e-3


class Judge(nn.Module):
    """Logits and features of patch codes (n, 6, 64, w), for any w of 64 or more."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        sizes = (config.LATENT_CHANNELS, width, width * 2, width * 3)
        layers: list[nn.Module] = []
        for size, following in itertools.pairwise(sizes):
            layers += [nn.Conv2d(size, following, 4, 2, 1), nn.GroupNorm(8, following), nn.SiLU()]
            layers += [nn.Conv2d(following, following, 3, 1, 1), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        # Rows are kept apart: what is above and what is below the horizon are different questions.
        self.squeeze = nn.Linear(sizes[-1] * 8, 128)
        self.heads = nn.ModuleDict({name: nn.Linear(128, len(values)) for name, values in HEADS.items()})
        self.light = nn.Linear(sizes[-1] * 8, 1)

    def lights(self, codes: Tensor) -> Tensor:
        """Logits (n, w / 8): is the sun's or the moon's centre in this column of 64 px."""
        return self.light(self.body(codes).flatten(1, 2).mT)[..., 0]

    def features(self, codes: Tensor) -> Tensor:
        """Features (n, 128)."""
        return F.silu(self.squeeze(self.body(codes).mean(-1).flatten(1)))

    def forward(self, codes: Tensor) -> dict[str, Tensor]:
        """Logits by attribute."""
        features = self.features(codes)
        return {name: head(features) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Examples:
    """Patch codes (n, 2, 6, 64, 256) and their scenes."""

    codes: Tensor
    scenes: list[Scene]

    def labels(self, indices: list[int]) -> dict[str, Tensor]:
        """Class numbers by attribute."""
        return {
            name: torch.tensor([values.index(getattr(self.scenes[i], name)) for i in indices])
            for name, values in HEADS.items()
        }


def count_lights(logits: Tensor) -> int:
    """Suns and moons in logits (w / 8,): runs of columns that say yes, as a disc may lie across two of them."""
    seen = [False, *(logits > 0).tolist()]
    return sum(now and not before for before, now in itertools.pairwise(seen))


def accuracy(judge: Judge, examples: Examples) -> dict[str, float]:
    """Share of whole panoramas that are named rightly, by attribute; `lights`: whose suns are counted rightly."""
    everything = list(range(len(examples.scenes)))
    with torch.inference_mode():
        codes = examples.codes[:, 0].float()
        said = {name: logits.argmax(-1) for name, logits in judge(codes).items()}
        counted = [count_lights(row) for row in judge.lights(codes)]
    truth = examples.labels(everything)
    right = {name: float((said[name] == truth[name]).float().mean()) for name in HEADS}
    there = [int(scene.light is not None) for scene in examples.scenes]
    return {**right, "lights": sum(a == b for a, b in zip(counted, there, strict=True)) / len(there)}


def train(settings: config.Settings) -> None:
    """The stage: trains the judge on all drawn scenes but the last 200; kept once it is there."""
    if FILE.exists():
        return
    codes, scenes = latents.load(settings.scenes)
    learn, check = Examples(codes[:-HELD_OUT], scenes[:-HELD_OUT]), Examples(codes[-HELD_OUT:], scenes[-HELD_OUT:])
    torch.manual_seed(config.SEED)
    rng = random.Random(config.SEED)
    judge = Judge()
    optimiser = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        codes, labels, discs = _batch(learn, rng)
        logits = judge(codes)
        loss = F.binary_cross_entropy_with_logits(judge.lights(codes), discs) * 4
        for name in HEADS:
            loss = loss + F.cross_entropy(logits[name], labels[name], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    judge.eval()
    config.log("judge", steps=STEPS, loss=loss.item(), **accuracy(judge, check))
    torch.save(judge.state_dict(), FILE)


def _batch(learn: Examples, rng: random.Random) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Random crops, their labels, and where the disc is (n, w / 8).

    The crops are noised a little: painted codes are never as clean as drawn ones.
    """
    indices = [rng.randrange(len(learn.scenes)) for _ in range(BATCH)]
    width = rng.choice((96, 128, 192))
    crops, discs = [], torch.zeros(BATCH, width // 8)
    for row, index in enumerate(indices):
        left, mirrored = rng.randint(0, learn.codes.shape[-1] - width), rng.random() < 0.5
        crops.append(learn.codes[index, int(mirrored), :, :, left : left + width].float())
        if (x := learn.scenes[index].light_x) is not None:
            column = math.floor(((1 - x if mirrored else x) * config.WIDTH / config.FACTOR - left) / 8)
            if 0 <= column < width // 8:
                discs[row, column] = 1.0
    codes = torch.stack(crops)
    return codes + torch.randn_like(codes) * 0.15 * torch.rand(BATCH, 1, 1, 1), learn.labels(indices), discs


def load() -> Judge:
    """The trained judge."""
    judge = Judge()
    judge.load_state_dict(torch.load(FILE, weights_only=True))
    return judge.eval()
