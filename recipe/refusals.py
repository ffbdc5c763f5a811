"""Configurations that the engine cannot paint rightly. Each is refused with the file, the key and the remedy.

What stands here are the knobs of diffusers' classes that the engine neither honours nor may ignore.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recipe.configs import SDXL, ModelConfigs
from recipe.errors import ModelError
from recipe.schedulers import SCHEDULERS

# What models are that take more than latents, by the channels of their first convolution.
KINDS_BY_CHANNELS = {
    9: "an inpainting model",
    8: "a model that is given a picture beside the latents (InstructPix2Pix, Marigold)",
    7: "an upscaler",
    5: "a depth-guided model",
}
# Scheduler classes of noise schedules that preserve variance; every scheduler of the table can be built from them.
_VARIANCE_PRESERVING = {scheduler.class_name for scheduler in SCHEDULERS.values()} | {
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "IPNDMScheduler",
}
_BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
_PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
_TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")


def check(configs: ModelConfigs, family: str) -> None:
    """Look at every knob.

    Raises:
        ModelError: with the first that cannot be honoured.
    """
    for file, faults in (
        ("unet/config.json", _unet(configs, family)),
        ("vae/config.json", _vae(configs.component("vae"))),
        ("scheduler/scheduler_config.json", _scheduler(configs.component("scheduler"))),
        ("model_index.json", _text(configs, family)),
    ):
        for fault in faults:
            raise ModelError(f"{configs.origin} cannot be painted: {file}: {fault}")


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Keys of a model's entry that replace its scheduler configuration's.

    Raises:
        ModelError
    """
    known: dict[str, tuple[Any, ...]] = {
        "prediction_type": _PREDICTION_TYPES,
        "timestep_spacing": _TIMESTEP_SPACINGS,
        "rescale_betas_zero_snr": (True, False),
    }
    for key, value in overrides.items():
        if value not in known[key] or isinstance(value, bool) != isinstance(known[key][0], bool):
            raise ModelError(f"{key} must be one of {', '.join(map(str, known[key]))}; not {value!r}")


def _unet(configs: ModelConfigs, family: str) -> Iterator[str]:
    unet, vae = configs.component("unet"), configs.component("vae")
    latent = vae.get("latent_channels", 4)
    taken, given = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if taken != latent:
        kind = KINDS_BY_CHANNELS.get(taken, "a model that is given more than latents")
        yield f"in_channels is {taken} and the VAE's latents have {latent}: this is {kind}; use its text-to-image model"
    if given != latent:
        yield f"out_channels is {given} and the VAE's latents have {latent}: such a prediction is not supported"
    for key in ("class_embed_type", "num_class_embeds"):
        if unet.get(key) is not None:
            yield f"{key} is {unet[key]!r}: models of a class or picture embedding are not supported"
    for key in ("encoder_hid_dim_type", "encoder_hid_dim"):
        if unet.get(key) is not None:
            yield f"{key} is {unet[key]!r}: models that project another encoder's states are not supported"
    added = unet.get("addition_embed_type")
    if added not in (("text_time",) if family == SDXL else (None, "text")):
        yield f"addition_embed_type is {added!r}, which is not supported for a model of these text encoders"
    yield from _unet_text(configs, family)


def _unet_text(configs: ModelConfigs, family: str) -> Iterator[str]:
    """Whether the UNet reads what the text encoders write."""
    unet, names = configs.component("unet"), ["text_encoder", "text_encoder_2"][: 2 if family == SDXL else 1]
    texts = [configs.components.get(name, {}) for name in names]
    width = sum(int(text.get("hidden_size", 512)) for text in texts)
    read = unet.get("cross_attention_dim", 1280)
    widths = set(read) if isinstance(read, list) else {read}
    if all(texts) and widths != {width}:
        yield f"cross_attention_dim is {read} and the text encoders write {width}: the parts are of different models"
    if family == SDXL and all(texts):
        ids = unet.get("projection_class_embeddings_input_dim", 0) - int(texts[1].get("projection_dim", 512))
        each = unet.get("addition_time_embed_dim") or 1
        if ids != 6 * each:
            yield (
                f"projection_class_embeddings_input_dim leaves room for {ids / each:g} size ids, and SDXL's base model"
                " has 6: refiners and models of other conditions are not supported; use the base model"
            )


def _vae(vae: Mapping[str, Any]) -> Iterator[str]:
    if vae.get("out_channels", 3) != 3:
        yield f"out_channels is {vae['out_channels']}, and a picture has 3"
    others = set(vae.get("up_block_types", ())) - {"UpDecoderBlock2D"}
    if others:
        yield f"up_block_types has {', '.join(sorted(others))}; only UpDecoderBlock2D is supported"
    if vae.get("act_fn", "silu") not in ("silu", "swish"):
        yield f"act_fn is {vae['act_fn']!r}; only 'silu' is supported"
    for key in ("latents_mean", "latents_std"):
        values = vae.get(key)
        if values is not None and len(values) != vae.get("latent_channels", 4):
            yield f"{key} has {len(values)} values for {vae.get('latent_channels', 4)} latent channels"
    if (vae.get("latents_mean") is None) != (vae.get("latents_std") is None):
        yield "latents_mean and latents_std must be given together"


def _scheduler(scheduler: Mapping[str, Any]) -> Iterator[str]:
    kind = str(scheduler.get("_class_name"))
    if kind.startswith("EDM"):
        yield (
            f"_class_name is {kind}: models of the EDM noise schedule (playground-v2.5, CosXL) are not supported;"
            " use a model with an ordinary one, such as SDXL's"
        )
    elif kind.startswith("Flow") or scheduler.get("use_flow_sigmas"):
        yield f"_class_name is {kind}: flow matching with a UNet is not supported"
    elif kind not in _VARIANCE_PRESERVING:
        known = ", ".join(sorted(_VARIANCE_PRESERVING))
        yield f"_class_name is {kind!r}, whose noise schedule is not known; known are {known}"
    if scheduler.get("trained_betas") is None:
        betas = scheduler.get("beta_schedule", "linear")
        if betas not in _BETA_SCHEDULES:
            yield f"beta_schedule is {betas!r}, and must be one of {', '.join(_BETA_SCHEDULES)}"
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in _PREDICTION_TYPES:
        yield f"prediction_type is {prediction!r}, and must be one of {', '.join(_PREDICTION_TYPES)}"
    if scheduler.get("thresholding"):
        yield "thresholding is true, which is for pixels and not for latents; set it to false"
    spacing = scheduler.get("timestep_spacing", "leading")
    if spacing not in _TIMESTEP_SPACINGS:
        yield f"timestep_spacing is {spacing!r}, and must be one of {', '.join(_TIMESTEP_SPACINGS)}"


def _text(configs: ModelConfigs, family: str) -> Iterator[str]:
    needed = ("text_encoder", "text_encoder_2") if family == SDXL else ("text_encoder",)
    for name in needed:
        if name not in configs.components:
            yield f"it names a {name}, and {name}/config.json is missing"
    for name in ("tokenizer", "tokenizer_2")[: len(needed)]:
        kind = configs.class_of(name)
        if kind not in ("CLIPTokenizer", "CLIPTokenizerFast"):
            yield f"its {name} is {kind!r}; only CLIPTokenizer is supported"
