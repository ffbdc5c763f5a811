"""Several processes of one thread each that share every step; on a few cores they beat one process of many threads.

Each process computes the gradient of its part of the batch; the gradients are averaged, and every process takes the
same step, so that their weights stay equal without being sent.
"""

import datetime
import logging
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from . import config

Worker = Callable[[config.Settings], None]


def launch(worker: Worker, settings: config.Settings) -> None:
    """Runs `worker` in `settings.processes` processes, or in this one."""
    if settings.processes == 1:
        worker(settings)
        return
    meeting = config.RUNS / "meeting"
    meeting.unlink(missing_ok=True)
    spawn(_enter, (worker, settings), nprocs=settings.processes)


def _enter(rank: int, worker: Worker, settings: config.Settings) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
    # A paused process is no lost process.
    dist.init_process_group(
        "gloo",
        init_method=f"file://{config.RUNS / 'meeting'}",
        rank=rank,
        world_size=settings.processes,
        timeout=datetime.timedelta(hours=12),
    )
    worker(settings)
    dist.destroy_process_group()


def rank() -> int:
    """This process's number; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the processes."""
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))


def sum_all(tensors: list[Tensor]) -> list[Tensor]:
    """The sums of `tensors` over the processes."""
    if world() == 1:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def first(value: float) -> float:
    """Process 0's `value`, in every process."""
    if world() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return shared.item()
