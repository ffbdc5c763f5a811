"""Paths, sizes and the seed that the stages share."""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "training" / "runs"
EXPORT = ROOT / "engine" / "demo"

SEED = 20260
HEIGHT, WIDTH = 512, 2048  # px of a drawn scene
FACTOR = 8  # px a latent
LATENT_CHANNELS = 6
VIEW = 64  # latents a side of one view
LATENT_NOISE = 0.08  # deviation of the noise on the latents while the autoencoder trains; their own deviation is 1


@dataclass(frozen=True)
class Settings:
    """What the command line decides."""

    device: str = "cpu"
    processes: int = 1
    scenes: int = 1000
    vae_minutes: float = 18.0
    unet_minutes: float = 66.0


def log(stage: str, **values: float | int | str) -> None:
    """Appends one JSON line to the stage's curve, `runs/<stage>.jsonl`, and shows it."""
    RUNS.mkdir(parents=True, exist_ok=True)
    record = {"time": round(time.time(), 1), **values}
    with (RUNS / f"{stage}.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    logging.getLogger(stage).info(
        " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
    )
