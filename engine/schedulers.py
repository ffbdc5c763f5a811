"""diffusers' schedulers by name, built from the model's own scheduler configuration."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import diffusers
import torch

from recipe.errors import FieldError, RecipeError
from recipe.schedulers import SCHEDULERS

# Signal-to-noise "zero" where a solver divides by it: diffusers' own figure in DPMSolverMultistepScheduler.
_LEAST_ALPHA = 2.0**-24
# Karras' rule spreads the steps over the logarithm of sigma, nearly: from a sigma of 4096 most of them would fall where
# there is nothing but noise. That paper starts from a sigma of 80.
_KARRAS_LEAST_ALPHA = 1 / (1 + 80.0**2)
_COSINE = "squaredcos_cap_v2"
# These look at a second point of each step, in sigma. A first step from 4096 to 14 would end far from any picture, so
# for models of zero terminal SNR they always use Karras' spacing.
_MIDPOINT = frozenset(
    {
        "DPMSolverSDEScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
    }
)


# A first step below this share of the training schedule begins at a noise level that the canvas, which is pure noise,
# does not have: few steps, or counts that divide the schedule badly.
_LEAST_BEGIN = 0.9


def make_scheduler(name: str, config: Mapping[str, Any], num_inference_steps: int, *, seed: int = 0) -> Any:
    """A fresh scheduler with its timesteps set, from the model's own configuration (`recipe.facts`).

    Where the configuration's spacing would begin too far below the last training timestep (1 step of `leading` begins
    at 1, 150 at 895), the steps are spaced `trailing`, from the last one (arXiv 2305.08891, section 3.3).

    `seed` is for solvers that draw their noise from a Brownian tree instead of a generator. The scheduler's tables stay
    on the CPU on purpose: indexing them by a device timestep would make the host wait at every step.

    Raises:
        RecipeError: when this scheduler cannot paint in so many steps.
    """
    if fault := SCHEDULERS[name].steps_fault(num_inference_steps):
        raise RecipeError((FieldError("num_inference_steps", fault),))
    scheduler = _build(name, config, seed)
    scheduler.set_timesteps(num_inference_steps)
    train_steps = scheduler.config.num_train_timesteps
    if not _LEAST_BEGIN * train_steps <= float(scheduler.timesteps[0]) < train_steps:
        scheduler = _build(name, {**config, "timestep_spacing": "trailing"}, seed)
        scheduler.set_timesteps(num_inference_steps)
    return scheduler


def _build(name: str, config: Mapping[str, Any], seed: int) -> Any:
    class_name, overrides = SCHEDULERS[name].class_name, SCHEDULERS[name].overrides
    scheduler_class = getattr(diffusers, class_name)
    accepted = inspect.signature(scheduler_class.__init__).parameters
    if "noise_sampler_seed" in accepted:
        overrides |= {"noise_sampler_seed": seed}
    if config.get("rescale_betas_zero_snr"):
        overrides |= _zero_snr_overrides(class_name, config, overrides, accepted)
    elif config.get("beta_schedule") == _COSINE:
        overrides |= _cosine_overrides(class_name, config, overrides)
    return scheduler_class.from_config(dict(config), **{k: v for k, v in overrides.items() if k in accepted})


def solver_steps(scheduler: Any) -> list[int]:
    """For each of the scheduler's timesteps, which of its steps it belongs to, counted from 0.

    Solvers of second order (`heun`, `kdpm_2`, `dpmpp_sde`) call the network twice a step, `pndm` in its first one.
    """
    calls = range(len(scheduler.timesteps))
    if isinstance(scheduler, diffusers.PNDMScheduler):
        return [max(call - 1, 0) for call in calls]
    return [call // scheduler.order for call in calls]


def _zero_snr_overrides(
    class_name: str, config: Mapping[str, Any], overrides: dict[str, Any], accepted: Collection[str]
) -> dict[str, Any]:
    """How a solver gets along with a model that begins at pure noise, where sigma is infinite."""
    karras = {"use_karras_sigmas": overrides.get("use_karras_sigmas", False) or class_name in _MIDPOINT}
    if not karras["use_karras_sigmas"] and "rescale_betas_zero_snr" in accepted:
        return {}  # diffusers' own way
    least = _KARRAS_LEAST_ALPHA if karras["use_karras_sigmas"] else _LEAST_ALPHA
    return karras | {"trained_betas": _rescaled_betas(config, least), "rescale_betas_zero_snr": False}


def _cosine_overrides(class_name: str, config: Mapping[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The cosine schedule ends so close to zero SNR, at a sigma of 20,000, that some solvers fail where it begins."""
    karras = bool(overrides.get("use_karras_sigmas")) or class_name in _MIDPOINT
    if not karras and class_name != "EulerAncestralDiscreteScheduler":
        return {}
    betas = diffusers.DDIMScheduler.from_config(dict(config)).betas.double()
    least = _KARRAS_LEAST_ALPHA if karras else _LEAST_ALPHA
    # Strictly falling: solvers interpolate between levels, and divide by their distance.
    floor = least * torch.linspace(1.1, 1.0, len(betas), dtype=torch.float64)
    return {"use_karras_sigmas": karras, "trained_betas": _clamped(betas, floor)}


def _rescaled_betas(config: Mapping[str, Any], least_alpha: float) -> list[float]:
    """Betas (num_train_timesteps,) of a schedule rescaled to zero terminal SNR (arXiv 2305.08891, algorithm 1).

    For solvers that do not know the rescaling, and would read the model's timesteps as other noise levels than it was
    trained on.
    """
    return _clamped(diffusers.DDIMScheduler.from_config(dict(config), rescale_betas_zero_snr=True).betas, least_alpha)


def _clamped(betas: torch.Tensor, least_alpha: float | torch.Tensor) -> list[float]:
    """Betas whose levels all keep `least_alpha` of the signal, since solvers that step in sigma divide by it."""
    alphas_cumprod = torch.cumprod(1 - betas.double(), dim=0)
    alphas_cumprod = torch.maximum(alphas_cumprod, torch.as_tensor(least_alpha, dtype=torch.float64))
    ratios = alphas_cumprod[1:] / alphas_cumprod[:-1]
    return [float(betas[0]), *(1 - ratios).tolist()]
