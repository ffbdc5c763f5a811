"""What a model can paint, from its configuration files alone: enough to judge a request without loading a weight.

What the engine cannot paint rightly is refused, naming the file, the key and the remedy (`recipe.refusals`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from recipe.configs import SDXL, STABLE_DIFFUSION, ModelConfigs
from recipe.errors import ModelError
from recipe.refusals import check, check_overrides
from recipe.schedulers import name_of

# The components whose classes tell a family from the others.
_TOLD_BY = ("unet", "vae", "text_encoder", "text_encoder_2")
_FAMILIES = {
    ("UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel", None): STABLE_DIFFUSION,
    ("UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel", "CLIPTextModelWithProjection"): SDXL,
}

# Keys of a model's entry that replace those of its scheduler configuration.
SCHEDULE_OVERRIDES = ("prediction_type", "rescale_betas_zero_snr", "timestep_spacing")
# Views that diffusers assumes where the UNet's configuration names none, or the 32 of versions before 0.9.
_DEFAULT_WINDOW = {STABLE_DIFFUSION: 64, SDXL: 128}
# Names under which distilled models are published; their configurations do not say it.
_FEW_STEP_NAMES = re.compile(r"turbo|lightning|hyper[-_]?sd|lcm|\bhyper\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model before it is loaded.

    Args:
        window: the native view in latent cells (UNet `sample_size`).
        latent_factor: pixels that a latent cell stands for along each axis (2 ** (VAE levels - 1)).
        max_clip_skip: most layers of the text encoder that can be skipped, None where that is not known.
        family: one of the names above.
        schedule: the scheduler configuration as the engine uses it.
        embeds_guidance: the UNet has the guidance scale as an input (`time_cond_proj_dim`) and no negative branch.
        few_steps: distilled to paint in a few steps.
        defaults: fields of `recipe.fields.Recipe` where a request, its preset and the model's entry leave them out.
    """

    window: int = 64
    latent_factor: int = 8
    latent_channels: int = 4
    max_clip_skip: int | None = None
    family: str = STABLE_DIFFUSION
    schedule: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)
    embeds_guidance: bool = False
    few_steps: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @property
    def supports(self) -> tuple[str, ...]:
        """What a model of this family can paint beside a prompt."""
        return ("regions",)

    @property
    def window_px(self) -> int:
        """Side of one view in pixels: the smallest canvas along either axis."""
        return self.window * self.latent_factor

    @property
    def default_stride(self) -> int:
        """The original's 8 of 64 cells, for a window of another size in proportion."""
        return max(1, self.window // 8) if self.window > 64 else min(8, self.window)


def facts_of(configs: ModelConfigs, overrides: Mapping[str, Any] = MappingProxyType({})) -> ModelFacts:
    """Read the facts; `overrides` replace keys of the scheduler configuration (`SCHEDULE_OVERRIDES`).

    Raises:
        ModelError: when the files are missing or the engine cannot paint what they describe.
    """
    check_overrides(overrides)
    configs = configs.with_scheduler(overrides)
    family = family_of(configs)
    check(configs, family)
    unet, vae, scheduler = (configs.component(name) for name in ("unet", "vae", "scheduler"))
    embeds_guidance = unet.get("time_cond_proj_dim") is not None
    few_steps = embeds_guidance or bool(_FEW_STEP_NAMES.search(configs.name))
    facts = ModelFacts(
        window=_window(configs, family),
        latent_factor=2 ** (len(vae.get("block_out_channels", [64])) - 1),
        max_clip_skip=_max_clip_skip(configs),
        latent_channels=int(vae.get("latent_channels", 4)),
        family=family,
        schedule=_schedule(scheduler, family),
        embeds_guidance=embeds_guidance,
        few_steps=few_steps,
    )
    return _with_defaults(facts, configs, scheduler)


def family_of(configs: ModelConfigs) -> str:
    """Which family a model is of, by the classes of its components.

    Raises:
        ModelError: when it is of none that the engine knows.
    """
    found = tuple(configs.class_of(name) for name in _TOLD_BY)
    if found not in _FAMILIES:
        parts = ", ".join(f"{name} {kind}" for name, kind in zip(_TOLD_BY, found, strict=True) if kind)
        raise ModelError(
            f"{configs.origin} holds a {configs.index.get('_class_name')}, not a Stable Diffusion 1.x, 2.x or XL:"
            f" model_index.json names {parts or 'none of its parts'}"
        )
    return _FAMILIES[found]


def _window(configs: ModelConfigs, family: str) -> int:
    size = configs.component("unet").get("sample_size")
    if isinstance(size, list):
        if len(set(size)) != 1:
            raise ModelError(f"{configs.origin}: unet/config.json has views of {size}; the engine's views are square")
        size = size[0]
    if size is None or (size == 32 and family == STABLE_DIFFUSION and _is_before_0_9(configs)):
        return _DEFAULT_WINDOW[family]
    if not isinstance(size, int) or size < 1:
        raise ModelError(f"{configs.origin}: unet/config.json has no usable sample_size: {size!r}")
    return size


def _is_before_0_9(configs: ModelConfigs) -> bool:
    """As diffusers' own pipeline asks before it corrects the sample size of old files."""
    version = str(configs.component("unet").get("_diffusers_version", "0.0.0"))
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    return numbers < [0, 9]


def _schedule(scheduler: Mapping[str, Any], family: str) -> dict[str, Any]:
    """As diffusers' pipelines correct it: latents are never clipped, and Stable Diffusion's offset is 1."""
    corrected = {**scheduler, "clip_sample": False}
    corrected.pop("_use_default_values", None)  # names of keys that diffusers would then ignore
    if family == STABLE_DIFFUSION:
        corrected["steps_offset"] = 1
    return corrected


def _with_defaults(facts: ModelFacts, configs: ModelConfigs, scheduler: Mapping[str, Any]) -> ModelFacts:
    own = name_of(str(scheduler.get("_class_name")), scheduler)
    defaults: dict[str, Any] = {"view_stride": facts.default_stride}
    if facts.embeds_guidance:
        defaults |= {"num_inference_steps": 4, "guidance_scale": 8.5, "scheduler": "lcm"}
    elif facts.few_steps:
        lcm = "lcm" in configs.name.lower()
        defaults |= {
            "num_inference_steps": 8 if lcm else 4,
            "guidance_scale": 1.0,
            "scheduler": "lcm" if lcm else own or "euler",
        }
    elif facts.family == SDXL:
        defaults |= {"num_inference_steps": 50, "guidance_scale": 5.0, "scheduler": own or "euler"}
    else:
        defaults |= {"num_inference_steps": 50, "guidance_scale": 7.5, "scheduler": "ddim"}
    return replace(facts, defaults=MappingProxyType(defaults))


def clip_skip_fault(skipped: int, most: int | None) -> str | None:
    """What is wrong with a request's `clip_skip` where a model can skip `most` layers, or None."""
    if most is None or skipped <= most:
        return None
    return f"must be at most {most}, not {skipped}: the model's text encoder has no more layers"


def _max_clip_skip(configs: ModelConfigs) -> int:
    """So that one layer of each text encoder is left. Two encoders (SDXL) never use their last layer."""
    encoders = [name for name in ("text_encoder", "text_encoder_2") if configs.class_of(name)]
    layers = [int(configs.component(name).get("num_hidden_layers", 12)) for name in encoders]
    return min(layers) - len(layers)
