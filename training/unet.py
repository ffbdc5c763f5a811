"""Trains the UNet and the text encoder together: v-prediction of noised latents, with an average of the weights."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

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


@dataclass
class Run:
    """Everything that a checkpoint holds."""

    model: nn.ModuleDict
    average: nn.ModuleDict
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    minutes: float = 0.0
    tokenizer: object = field(default_factory=tokenizer.load)

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


def build() -> nn.ModuleDict:
    """The UNet ("unet") and the text encoder ("text") with random weights."""
    parts = {"unet": models.unet(), "text": models.text_encoder(tokenizer.load())}
    return nn.ModuleDict(parts).to(memory_format=torch.channels_last)


def loss(
    model: nn.ModuleDict, tokens: Tensor, samples: Tensor, noise: Tensor, steps: Tensor, scheduler: DDIMScheduler
) -> Tensor:
    """Mean squared error of v for samples (n, 6, 64, 64), tokens (n, 77) and timesteps (n,)."""
    noised = scheduler.add_noise(samples, noise, steps)
    with torch.autocast(samples.device.type, torch.bfloat16):
        states = model["text"](tokens)[0]
        output = model["unet"](noised, steps, encoder_hidden_states=states, return_dict=False)[0]
    return (output.float() - scheduler.get_velocity(samples, noise, steps)).square().mean()


def encode(run: Run, captions: list[str]) -> Tensor:
    """Tokens (n, 77) of `captions`."""
    options = {"padding": "max_length", "truncation": True, "max_length": tokenizer.LENGTH, "return_tensors": "pt"}
    return run.tokenizer(captions, **options).input_ids


def held_out(run: Run, data: Data, scheduler: DDIMScheduler) -> tuple[Tensor, ...]:
    """A fixed batch of scenes that are never trained on: tokens, samples, noise and timesteps."""
    samples, captions = data.batch(HELD_OUT_BATCH, random.Random(config.SEED))
    generator = torch.Generator().manual_seed(config.SEED)
    noise = torch.randn(samples.shape, generator=generator)
    steps = timesteps(len(samples), scheduler.config.num_train_timesteps, generator)
    return encode(run, captions), samples, noise, steps


@torch.no_grad()
def held_out_loss(run: Run, fixed: tuple[Tensor, ...], scheduler: DDIMScheduler) -> float:
    """The averaged weights' loss on the fixed batch."""
    parts = zip(*(tensor.split(BATCH) for tensor in fixed), strict=True)
    return sum(loss(run.average, *part, scheduler).item() * len(part[0]) for part in parts) / len(fixed[0])


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
    inputs = (tensor[mine].to(device) for tensor in (encode(run, captions), samples, noise, steps))
    optim.set_rate(run.optimisers, rate(done, run.step))
    value = loss(run.model, *inputs, scheduler)
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
    model, average = build().to(settings.device), build().to(settings.device).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    run = Run(model, average, optim.build(model, RATE, ADAM_RATE, ADAM))
    run.resume()
    scheduler = models.scheduler()
    encoded, scenes = latents.load(settings.scenes)
    data = Data(encoded[latents.HELD_OUT :], scenes[latents.HELD_OUT :])
    check = Data(encoded[: latents.HELD_OUT], scenes[: latents.HELD_OUT])
    fixed = tuple(tensor.to(settings.device) for tensor in held_out(run, check, scheduler))
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
