"""A small classifier that says what a picture shows: biome, time of day, weather. It learns from drawn scenes alone.

It reads the linear patch code of a picture (`code.py`) instead of its pixels: the code is the same for a drawn and for
a painted picture, and the scenes that the UNet learned from are on disk in it.
"""

import itertools
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


def accuracy(judge: Judge, examples: Examples) -> dict[str, float]:
    """Share of whole panoramas that are named rightly, by attribute."""
    everything = list(range(len(examples.scenes)))
    with torch.inference_mode():
        said = {name: logits.argmax(-1) for name, logits in judge(examples.codes[:, 0].float()).items()}
    truth = examples.labels(everything)
    return {name: float((said[name] == truth[name]).float().mean()) for name in HEADS}


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
        logits, labels = _batch(judge, learn, rng)
        loss = sum(
            (F.cross_entropy(logits[name], labels[name], label_smoothing=0.05) for name in HEADS), torch.zeros(())
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    judge.eval()
    config.log("judge", steps=STEPS, loss=loss.item(), **accuracy(judge, check))
    torch.save(judge.state_dict(), FILE)


def _batch(judge: Judge, learn: Examples, rng: random.Random) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits and labels of random crops, noised a little: painted codes are never as clean as drawn ones."""
    indices = [rng.randrange(len(learn.scenes)) for _ in range(BATCH)]
    width = rng.choice((96, 128, 192))
    crops = []
    for index in indices:
        left = rng.randint(0, learn.codes.shape[-1] - width)
        crops.append(learn.codes[index, rng.randrange(2), :, :, left : left + width].float())
    codes = torch.stack(crops)
    codes = codes + torch.randn_like(codes) * 0.15 * torch.rand(BATCH, 1, 1, 1)
    return judge(codes), learn.labels(indices)


def load() -> Judge:
    """The trained judge."""
    judge = Judge()
    judge.load_state_dict(torch.load(FILE, weights_only=True))
    return judge.eval()
