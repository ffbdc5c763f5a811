"""The UNet's data: wide scenes drawn, encoded and kept as latents, each also mirrored."""

import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import code, config, scenes
from .attributes import Scene, sample

FOLDER = config.RUNS / "latents"
SHARD = 100  # scenes a file
FIRST_SEED = 1_000_000
HELD_OUT = 48  # the first scenes are never trained on


def encode(seed: int, fitted: code.Code) -> np.ndarray:
    """Latents (2, 6, 64, 256) fp16 of the scene of `seed` as drawn and mirrored."""
    drawn = torch.from_numpy(scenes.draw(sample(seed), config.HEIGHT, config.WIDTH)).permute(2, 0, 1)
    image = drawn.float() / 127.5 - 1.0
    return fitted.encode(torch.stack([image, image.flip(-1)])).half().numpy()


def shard_path(index: int) -> Path:
    """The file of shard `index`."""
    return FOLDER / f"{index:04d}.npy"


def load(count: int) -> tuple[Tensor, list[Scene]]:
    """Latents (n, 2, 6, 64, 256) fp16 and the scenes of the first `count` scenes that are on disk."""
    parts = []
    for index in range(-(-count // SHARD)):
        if not shard_path(index).exists():
            break
        parts.append(np.load(shard_path(index)))
    latents = torch.from_numpy(np.concatenate(parts))[:count]
    return latents, [sample(FIRST_SEED + i) for i in range(len(latents))]


def train(settings: config.Settings) -> None:
    """Draws and encodes `settings.scenes` scenes, a file of 100 at a time; files that are there stay."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as workers:
        for index in range(-(-settings.scenes // SHARD)):
            if shard_path(index).exists():
                continue
            start = time.time()
            seeds = range(FIRST_SEED + index * SHARD, FIRST_SEED + (index + 1) * SHARD)
            encoded = np.stack(list(workers.map(partial(encode, fitted=code.load()), seeds, chunksize=5)))
            part = shard_path(index).with_suffix(".part")
            with part.open("wb") as file:
                np.save(file, encoded)
            part.rename(shard_path(index))
            config.log(
                "latents",
                shard=index,
                mean=float(encoded.mean(dtype=np.float32)),
                deviation=float(encoded.std(dtype=np.float32)),
                seconds=time.time() - start,
            )
