"""Muon for the weight matrices and AdamW for everything else.

Muon (Jordan et al., 2024) replaces a matrix's momentum by its nearest orthogonal matrix, found with a quintic
Newton-Schulz iteration; it needs markedly fewer steps than AdamW for convolutions and linear layers.
"""

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn

from . import parallel

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The orthogonal factor of `matrix` (rows, columns), singular values within about 0.7..1.2.

    Every iterate is a polynomial of the first Gram matrix times `matrix`, so that the iteration runs on the small
    square matrix alone; for a convolution that is a tenth of the work.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    gram, product = x @ x.T, None
    for step in range(steps):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ gram @ factor
    x = product @ x
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """Muon over parameters of two or more dimensions; a convolution (out, in, h, w) is the matrix (out, in*h*w)."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01):
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "decay": decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient. Returns what `closure` returns, which computes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            matrices = [self._direction(parameter, group["momentum"]) for parameter in parameters]
            # The processes share the costly part: each does its own matrices and leaves zeros for the others.
            mine = [
                orthogonalise(matrix) if i % parallel.world() == parallel.rank() else torch.zeros_like(matrix)
                for i, matrix in enumerate(matrices)
            ]
            for parameter, matrix in zip(parameters, parallel.sum_all(mine), strict=True):
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["decay"])
                parameter.add_(matrix.view_as(parameter), alpha=-group["lr"] * scale)
        return loss

    def _direction(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        assert parameter.grad is not None
        buffer.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum).flatten(1)  # Nesterov


def build(model: nn.Module, lr: float, adam_lr: float, adam_names: tuple[str, ...]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of `model`; AdamW for vectors and parameters whose name contains one of `adam_names`."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim < 2 or any(part in name for part in adam_names)
        (others if plain else matrices).append(parameter)
    return [Muon(matrices, lr), torch.optim.AdamW(others, adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]


def set_rate(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    """Scales every group's learning rate to `factor` times the one it was built with."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("base_lr", group["lr"])
            group["lr"] = group["base_lr"] * factor
