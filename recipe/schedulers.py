"""Schedulers by name: the class of diffusers that each is, and the options that make it that one. Imports no torch.

The names are those of diffusers' documentation and of InvokeAI; `_karras` is the noise schedule of arXiv 2206.00364,
equation 5. To add one, add a line here and write `openapi.yaml` anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_KARRAS = {"use_karras_sigmas": True}
_DPMPP = {"algorithm_type": "dpmsolver++", "solver_order": 2}
_SDE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
_LOWER_ORDER_FINAL = {"lower_order_final": True}  # what this class sets by itself, with a warning


# How solvers that step in sigma may space their steps. A name says which: a model's own configuration does not.
_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


@dataclass(frozen=True, slots=True)
class Scheduler:
    """`class_name` is a class of diffusers; `options` override the model's own scheduler configuration.

    With fewer than `min_steps` its first step would end at the logarithm of zero. The class refuses more than
    `max_steps`, from which such models were distilled. Solvers of the second `order` call the network twice in every
    step but the last, those with a `first_step` of their own so often in it.
    """

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    min_steps: int = 1
    max_steps: int | None = None
    order: int = 1
    first_step: int = 1

    def calls(self, step: int, steps: int) -> int:
        """How often a step, counted from 0 and one of `steps`, calls the network."""
        if step == steps - 1:
            return 1
        return self.first_step if step == 0 and self.order == 1 else self.order

    @property
    def overrides(self) -> dict[str, Any]:
        """`options`, with every way to space the steps that they do not choose switched off."""
        return dict.fromkeys(_SPACINGS, False) | dict(self.options)

    def steps_fault(self, steps: int) -> str | None:
        """Why this scheduler cannot paint in so many steps, or None."""
        if self.max_steps is not None and steps > self.max_steps:
            return f"must be at most {self.max_steps} with this scheduler, not {steps}"
        if steps < self.min_steps:
            return f"must be at least {self.min_steps} with this scheduler, not {steps}"
        return None


SCHEDULERS: Mapping[str, Scheduler] = MappingProxyType(
    {
        "ddim": Scheduler("DDIMScheduler"),
        "ddpm": Scheduler("DDPMScheduler"),
        "deis": Scheduler("DEISMultistepScheduler"),
        "deis_karras": Scheduler("DEISMultistepScheduler", _KARRAS),
        "dpmpp_2m": Scheduler("DPMSolverMultistepScheduler", _DPMPP),
        "dpmpp_2m_karras": Scheduler("DPMSolverMultistepScheduler", _DPMPP | _KARRAS),
        "dpmpp_2m_sde": Scheduler("DPMSolverMultistepScheduler", _SDE),
        "dpmpp_2m_sde_karras": Scheduler("DPMSolverMultistepScheduler", _SDE | _KARRAS),
        "dpmpp_2s": Scheduler("DPMSolverSinglestepScheduler", _DPMPP | _LOWER_ORDER_FINAL),
        "dpmpp_2s_karras": Scheduler("DPMSolverSinglestepScheduler", _DPMPP | _KARRAS | _LOWER_ORDER_FINAL),
        "dpmpp_3m": Scheduler("DPMSolverMultistepScheduler", _DPMPP | {"solver_order": 3}),
        "dpmpp_sde": Scheduler("DPMSolverSDEScheduler", order=2),
        "dpmpp_sde_karras": Scheduler("DPMSolverSDEScheduler", _KARRAS, order=2),
        "euler": Scheduler("EulerDiscreteScheduler"),
        "euler_a": Scheduler("EulerAncestralDiscreteScheduler"),
        "euler_karras": Scheduler("EulerDiscreteScheduler", _KARRAS),
        "heun": Scheduler("HeunDiscreteScheduler", order=2),
        "heun_karras": Scheduler("HeunDiscreteScheduler", _KARRAS, order=2),
        "kdpm_2": Scheduler("KDPM2DiscreteScheduler", order=2),
        "kdpm_2_a": Scheduler("KDPM2AncestralDiscreteScheduler", min_steps=3, order=2),
        "kdpm_2_karras": Scheduler("KDPM2DiscreteScheduler", _KARRAS, order=2),
        "lcm": Scheduler("LCMScheduler", max_steps=50),
        "lms": Scheduler("LMSDiscreteScheduler"),
        "lms_karras": Scheduler("LMSDiscreteScheduler", _KARRAS),
        "pndm": Scheduler("PNDMScheduler", {"skip_prk_steps": True}, first_step=2),
        "sa_solver": Scheduler("SASolverScheduler"),
        "tcd": Scheduler("TCDScheduler", max_steps=50),
        "unipc": Scheduler("UniPCMultistepScheduler"),
        "unipc_karras": Scheduler("UniPCMultistepScheduler", _KARRAS),
    }
)


def name_of(class_name: str, config: Mapping[str, Any]) -> str | None:
    """Our name of a model's own scheduler, or None where it is none of the table."""
    wanted = {
        "use_karras_sigmas": bool(config.get("use_karras_sigmas")),
        "algorithm_type": config.get("algorithm_type"),
    }
    for name, scheduler in SCHEDULERS.items():
        options = {"use_karras_sigmas": False, **scheduler.options}
        if scheduler.class_name == class_name and all(
            options.get(key) == value for key, value in wanted.items() if key in options and value is not None
        ):
            return name
    return None
