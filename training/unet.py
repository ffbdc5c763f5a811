"""Trains the UNet and the text encoder together: v-prediction of noised latents, with an average of the weights."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer

from . import config, latents, models, optim, parallel, tokenizer
from .data import Data, timesteps

CHECKPOINT = config.RUNS / "unet.pt"
BATCH = 24
EVERY = 100  # steps between two lines of the curve
SAVE_MINUTES = 3.0
RATE, ADAM_RATE = 0.01, 2e-3
ADAM = ("conv_in", "conv_out", "embedding", "conv_norm_out")  # what AdamW trains; Muon trains the other matrices
HELD_OUT_BATCH = 96
HALF_WIDTH_UNTIL = 0.75  # part of the training


class Parts(nn.Module):
    """What is trained together: the UNet and the text encoder, with random weights at first."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = models.unet().to(memory_format=torch.channels_last)
        self.text = models.text_encoder(tokenizer.load())


class Batch(NamedTuple):
    """Tokens (n, 77), samples and noise (n, 6, 64, w), timesteps (n,)."""

    tokens: Tensor
    samples: Tensor
    noise: Tensor
    steps: Tensor

    def to(self, device: str) -> Batch:
        """The batch on `device`."""
        return Batch(*(tensor.to(device) for tensor in self))

    def part(self, rows: slice) -> Batch:
        """The batch's `rows`."""
        return Batch(*(tensor[rows] for tensor in self))


@dataclass
class Run:
    """Everything that a checkpoint holds."""

    model: Parts
    average: Parts
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    minutes: float = 0.0
    tokenizer: CLIPTokenizer = field(default_factory=tokenizer.load)

    def save(self, path: Path = CHECKPOINT) -> None:
        """Writes the checkpoint in one piece, so that a stop in the middle loses nothing."""
        part = path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "step": self.step,
                "optimisers": [o.state_dict() for o in self.optimisers],
                "minutes": self.minutes,
            },
            part,
        )
        part.rename(path)

    def resume(self, path: Path = CHECKPOINT) -> None:
        """Continues from the checkpoint, if there is one."""
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.step, self.minutes = saved["step"], saved["minutes"]

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the average towards the weights; it spans about the last eighth of the steps, 1,000 at most."""
        decay = min(0.999, 1 - 8 / (self.step + 16))
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)


def loss(model: Parts, batch: Batch, scheduler: DDIMScheduler) -> Tensor:
    """Mean squared error of v."""
    tokens, samples, noise, steps = batch
    noised = scheduler.add_noise(samples, noise, steps)
    with torch.autocast(samples.device.type, torch.bfloat16):
        states = model.text(tokens)[0]
        output = model.unet(noised, steps, encoder_hidden_states=states, return_dict=False)[0]
    return (output.float() - scheduler.get_velocity(samples, noise, steps)).square().mean()


def encode(run: Run, captions: list[str]) -> Tensor:
    """Tokens (n, 77) of `captions`."""
    options = {"padding": "max_length", "truncation": True, "max_length": tokenizer.LENGTH, "return_tensors": "pt"}
    return run.tokenizer(captions, **options).input_ids


def held_out(run: Run, data: Data, scheduler: DDIMScheduler) -> Batch:
    """A fixed batch of scenes that are never trained on."""
    samples, captions = data.batch(HELD_OUT_BATCH, random.Random(config.SEED))
    generator = torch.Generator().manual_seed(config.SEED)
    noise = torch.randn(samples.shape, generator=generator)
    steps = timesteps(len(samples), scheduler.config.num_train_timesteps, generator)
    return Batch(encode(run, captions), samples, noise, steps)


@torch.no_grad()
def held_out_loss(run: Run, fixed: Batch, scheduler: DDIMScheduler) -> float:
    """The averaged weights' loss on the fixed batch."""
    count = len(fixed.tokens)
    parts = [fixed.part(slice(start, start + BATCH)) for start in range(0, count, BATCH)]
    return sum(loss(run.average, part, scheduler).item() * len(part.tokens) for part in parts) / count


def rate(done: float, step: int) -> float:
    """The learning rate's factor: warmed up, then constant, and falling linearly over the last 60 % of the time."""
    return min(1.0, (step + 1) / 100) * min(1.0, (1.02 - done) / 0.6)


def one_step(run: Run, data: Data, scheduler: DDIMScheduler, device: str, done: float) -> float:
    """One update; the step's number alone decides its batch, so that a resumed run sees other batches.

    `done` is the part of the training that is over. Most of it sees views of half the width, which cost half: a scene
    is the same everywhere along the horizon.
    """
    generator = torch.Generator().manual_seed(config.SEED + run.step)
    width = config.VIEW if done > HALF_WIDTH_UNTIL else config.VIEW // 2
    samples, captions = data.batch(BATCH, random.Random(config.SEED + run.step), width)
    noise = torch.randn(samples.shape, generator=generator)
    steps = timesteps(BATCH, scheduler.config.num_train_timesteps, generator)
    mine = slice(parallel.rank(), None, parallel.world())
    batch = Batch(encode(run, captions), samples, noise, steps).part(mine).to(device)
    optim.set_rate(run.optimisers, rate(done, run.step))
    value = loss(run.model, batch, scheduler)
    value.backward()
    parallel.average_gradients(run.model.parameters())
    for optimiser in run.optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    run.step += 1
    run.update_average()
    return value.item()


def train(settings: config.Settings) -> None:
    """Trains until `settings.unet_minutes` are spent, all runs together."""
    parallel.launch(_train, settings)


def _train(settings: config.Settings) -> None:
    torch.manual_seed(config.SEED)
    model, average = Parts().to(settings.device), Parts().to(settings.device).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    run = Run(model, average, optim.build(model, RATE, ADAM_RATE, ADAM))
    run.resume()
    scheduler = models.scheduler()
    encoded, scenes = latents.load(settings.scenes)
    data = Data(encoded[latents.HELD_OUT :], scenes[latents.HELD_OUT :])
    check = Data(encoded[: latents.HELD_OUT], scenes[: latents.HELD_OUT])
    fixed = held_out(run, check, scheduler).to(settings.device)
    losses: list[float] = []
    last, saved = time.time(), run.minutes
    while run.minutes < settings.unet_minutes:
        losses.append(one_step(run, data, scheduler, settings.device, run.minutes / settings.unet_minutes))
        run.minutes = parallel.first(run.minutes + min(0.2, (time.time() - last) / 60))  # a pause does not count
        last = time.time()
        if parallel.rank() == 0 and run.step % EVERY == 0:
            config.log(
                "unet",
                step=run.step,
                loss=sum(losses) / len(losses),
                minutes=run.minutes,
                held_out=held_out_loss(run, fixed, scheduler),
            )
            losses.clear()
        if parallel.rank() == 0 and run.minutes - saved > SAVE_MINUTES:
            run.save()
            saved = run.minutes
    if parallel.rank() == 0:
        run.save()
