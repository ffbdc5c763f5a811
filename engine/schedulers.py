"""diffusers' schedulers by name, built from the model's own scheduler configuration."""

from __future__ import annotations

from typing import Any

import diffusers

from engine.params import SCHEDULERS

_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
if set(_CLASSES) != set(SCHEDULERS):
    raise RuntimeError("engine.params.SCHEDULERS and engine.schedulers name different schedulers")


def make_scheduler(name: str, config: dict[str, Any], num_inference_steps: int) -> Any:
    """A fresh scheduler with its timesteps set.

    Its tables stay on the CPU on purpose: indexing them by a device timestep would make the host wait at every step.
    """
    class_name, overrides = _CLASSES[name]
    scheduler = getattr(diffusers, class_name).from_config(config, **overrides)
    scheduler.set_timesteps(num_inference_steps)
    return scheduler
