"""diffusers' schedulers by name, built from the model's own scheduler configuration."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

import diffusers
import torch

from recipe.schedulers import SCHEDULERS

# Signal-to-noise "zero" where a solver divides by it: diffusers' own figure in DPMSolverMultistepScheduler.
_LEAST_ALPHA = 2.0**-24
# Karras' rule spreads the steps over the logarithm of sigma, nearly: from a sigma of 4096 most of them would fall where
# there is nothing but noise. This is the sigma from which that paper starts.
_KARRAS_SIGMA_MAX = 80.0
# They look at a second point of each step, in sigma. A first step from 4096 to 14 would end far from any picture, so
# for models of zero terminal SNR they always take Karras' steps.
_MIDPOINT = frozenset(
    {
        "DPMSolverSDEScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
    }
)


def make_scheduler(name: str, config: dict[str, Any], num_inference_steps: int, *, seed: int = 0) -> Any:
    """A fresh scheduler with its timesteps set.

    `seed` is for solvers that draw their noise from a Brownian tree instead of a generator. The scheduler's tables stay
    on the CPU on purpose: indexing them by a device timestep would make the host wait at every step.
    """
    class_name, overrides = SCHEDULERS[name].class_name, dict(SCHEDULERS[name].options)
    scheduler_class = getattr(diffusers, class_name)
    accepted = inspect.signature(scheduler_class.__init__).parameters
    if "noise_sampler_seed" in accepted:
        overrides = overrides | {"noise_sampler_seed": seed}
    if config.get("rescale_betas_zero_snr"):
        overrides = overrides | _zero_snr_overrides(class_name, config, overrides, accepted)
    scheduler = scheduler_class.from_config(config, **{k: v for k, v in overrides.items() if k in accepted})
    scheduler.set_timesteps(num_inference_steps)
    return scheduler


def _zero_snr_overrides(
    class_name: str, config: dict[str, Any], overrides: dict[str, Any], accepted: Collection[str]
) -> dict[str, Any]:
    """How a solver gets along with a model that begins at pure noise, where sigma is infinite."""
    karras = {"use_karras_sigmas": overrides.get("use_karras_sigmas", False) or class_name in _MIDPOINT}
    if not karras["use_karras_sigmas"] and "rescale_betas_zero_snr" in accepted:
        return {}  # diffusers' own way
    least = 1 / (1 + _KARRAS_SIGMA_MAX**2) if karras["use_karras_sigmas"] else _LEAST_ALPHA
    return karras | {"trained_betas": _rescaled_betas(config, least), "rescale_betas_zero_snr": False}


def _rescaled_betas(config: dict[str, Any], least_alpha: float) -> list[float]:
    """Betas (num_train_timesteps,) of a schedule rescaled to zero terminal SNR (arXiv 2305.08891, algorithm 1).

    For solvers that do not know the rescaling, and would read the model's timesteps as other noise levels than it was
    trained on. The last level keeps `least_alpha` of the signal, since these solvers divide by it.
    """
    betas = diffusers.DDIMScheduler.from_config(config, rescale_betas_zero_snr=True).betas.double()
    alphas_cumprod = torch.cumprod(1 - betas, dim=0).clamp_min(least_alpha)
    ratios = alphas_cumprod[1:] / alphas_cumprod[:-1]
    return [float(betas[0]), *(1 - ratios).tolist()]
