"""One-file checkpoints: which model a `.safetensors` file holds, by its names of weights, and its configurations.

These are the names of the original training code, which nearly all files have that are shared as one file.
"""

from __future__ import annotations

import logging
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipe.configs import ModelConfigs
from recipe.errors import ModelError
from recipe.packaged import packaged
from recipe.refusals import KINDS_BY_CHANNELS
from recipe.safetensors import Header, read_header, read_numbers
from recipe.shapes import Shapes, clip_config, open_clip_config, unet_config, vae_config

log = logging.getLogger(__name__)

UNET, VAE = "model.diffusion_model.", "first_stage_model."
# Where text encoders lie: OpenAI's CLIP of 1.x, open_clip of 2.x, both in XL.
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
XL_CLIP, XL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
_REFINER = "conditioner.embedders.0.model."

# Files that hold something else, by what a name of a weight contains. The first that fits counts.
_OTHERS = (
    (r"(^|[._])lora[._]|\.lora_?[AB]\.|hada_w|lokr_w|oft_blocks", "a LoRA, which is added to a model and is none"),
    (r"^control_model\.|controlnet_|input_hint_block", "a ControlNet, which is added to a model and is none"),
    (r"^emb_params$|^string_to_param|^clip_[lg]$", "a textual inversion, which is added to a model and is none"),
    (r"motion_modules\.", "a motion module of AnimateDiff, which is added to a model and is none"),
    (r"scaled_fp8$|\.scale_weight$", "a model in scaled 8-bit numbers; use its file in fp16"),
    (r"^edm_mean$|^edm_vpred\.", "a model of the EDM noise schedule (playground-v2.5, CosXL), which is not supported"),
    (r"joint_blocks\.", "a Stable Diffusion 3, which is not supported"),
    (r"double_blocks\.|double_stream_blocks\.", "a Flux or one of its relatives, which is not supported"),
)
# Files without a UNet of the original's names: all their names begin like this.
_ALONE = (
    (r"(model\.diffusion_model\.|net\.)", "a diffusion transformer, which is not supported"),
    (r"(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)\.", "a UNet alone"),
    (r"(conv_in|conv_out|conv_norm_out|time_embedding|add_embedding|(down|up|mid)_blocks?)\.", "a UNet alone"),
    (r"(first_stage_model\.|vae\.)?(encoder|decoder|quant_conv|post_quant_conv|loss)\.", "a VAE alone"),
    (r"(text_model|text_projection|transformer|token_embedding|logit_scale|cond_stage_model)", "a text encoder alone"),
)
# Above this, the standard deviation of a bias near the output says v-prediction: it is about 0.07 in 2.0 and 2.1 of
# 512 px, and above 0.1 in those of 768 px. ComfyUI tells them apart by the same number.
_V_PREDICTION = 0.09


def read_single_file(path: Path) -> ModelConfigs:
    """The configurations of the model in a file.

    Raises:
        ModelError: when it holds no model that the engine paints; the message says what it holds.
    """
    header = read_header(path)
    _refuse_others(header)
    kind = kind_of(header)
    try:
        return _configs(header, kind)
    except (IndexError, ValueError) as error:
        raise ModelError(f"{path} has weights of shapes that no Stable Diffusion has") from error


def _configs(header: Header, kind: str) -> ModelConfigs:
    path = header.path
    configs = packaged(kind, str(path))
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}

    def of(prefix: str) -> Shapes:
        return Shapes(path, prefix, shapes)

    known = configs.components
    components: dict[str, Any] = {
        **known,
        "unet": unet_config(of(UNET), known["unet"]),
        "vae": vae_config(of(VAE), known["vae"]),
        "scheduler": {**known["scheduler"], **_schedule(header)},
    }
    if kind == "sdxl":
        components["text_encoder"] = clip_config(of(XL_CLIP), known["text_encoder"])
        components["text_encoder_2"] = open_clip_config(of(XL_OPEN_CLIP), known["text_encoder_2"])
        pooled = components["text_encoder_2"]["projection_dim"]
        ids = components["unet"]["projection_class_embeddings_input_dim"] - pooled
        components["unet"]["addition_time_embed_dim"] = ids // 6
    elif kind == "sd15":
        components["text_encoder"] = clip_config(of(CLIP), known["text_encoder"])
    else:
        # The last layer is not used; files that were converted from diffusers do not have it.
        layers = known["text_encoder"]["num_hidden_layers"]
        components["text_encoder"] = open_clip_config(of(OPEN_CLIP), known["text_encoder"], layers=layers)
    return replace(configs, components=components)


def _refuse_others(header: Header) -> None:
    names = list(header.tensors)
    what = next((what for pattern, what in _OTHERS if any(re.search(pattern, name) for name in names)), None)
    if what is None and UNET + "input_blocks.0.0.weight" not in header.tensors:
        alone = (what for pattern, what in _ALONE if all(re.match(pattern, name) for name in names))
        what = next(alone, None) if names else "no weight"
        if what is None:
            said = header.metadata.get("modelspec.architecture")
            detail = f"its metadata says {said!r}" if said else f"with weights such as {names[0]}"
            what = f"a model of unknown kind ({detail})"
        elif what.endswith("alone"):
            what += "; give the file of the whole model, or a folder in diffusers' layout"
    if what:
        raise ModelError(f"{header.path} holds {what}: no Stable Diffusion 1.x, 2.x or XL")


def kind_of(header: Header) -> str:
    """Which of the packaged kinds a file with a UNet is of.

    Raises:
        ModelError: when it is of none, or lacks a part.
    """

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in header.tensors)

    path = header.path
    if has(_REFINER) and not has(XL_OPEN_CLIP):
        raise ModelError(f"{path} holds the refiner of an SDXL, which paints nothing by itself: use the base model")
    channels = header.tensors[UNET + "input_blocks.0.0.weight"].shape[1:2]
    if channels and channels[0] in KINDS_BY_CHANNELS:
        kind = KINDS_BY_CHANNELS[channels[0]]
        raise ModelError(f"{path} holds {kind}, with {channels[0]} input channels: use its text-to-image model")
    if not has(VAE):
        raise ModelError(f"{path} lacks its VAE ({VAE}*): give the file of the whole model")
    if has(XL_CLIP) and has(XL_OPEN_CLIP):
        return "sdxl"
    if has(UNET + "label_emb."):
        raise ModelError(
            f"{path} holds a UNet with a class or picture embedding, and not SDXL's text encoders: it is a model that"
            " is given more than text (unCLIP), or its text encoders were left out"
        )
    if has(OPEN_CLIP):
        return "sd21v" if _predicts_velocity(header) else "sd20"
    if has(CLIP):
        return "sd15"
    raise ModelError(f"{path} lacks its text encoder ({CLIP}* or {OPEN_CLIP}*): give the file of the whole model")


def _schedule(header: Header) -> dict[str, Any]:
    """What a file says of its noise schedule."""
    said: dict[str, Any] = {}
    if prediction := _said_prediction(header):
        said["prediction_type"] = prediction
    if "ztsnr" in header.tensors:
        said |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return said


def _said_prediction(header: Header) -> str | None:
    """By a key that tools agree on, or by the file's description (https://github.com/Stability-AI/ModelSpec)."""
    if "v_pred" in header.tensors:
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "").lower()
    return {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}.get(said)


def _predicts_velocity(header: Header) -> bool:
    """Of a 2.x: whether it predicts v at 768 px rather than noise at 512 px. Names and shapes are the same."""
    if said := _said_prediction(header):
        return said == "v_prediction"
    last = Shapes(header.path, UNET, {name: tensor.shape for name, tensor in header.tensors.items()})
    name = f"{UNET}output_blocks.{last.count('output_blocks.') - 1}.1.transformer_blocks.0.norm1.bias"
    numbers = read_numbers(header, name) if name in header.tensors else None
    if not numbers:
        raise ModelError(f"{header.path} does not tell whether it is a 2.x of 512 or of 768 px: use a file in fp16")
    velocity = statistics.pstdev(numbers) > _V_PREDICTION
    log.info(
        "%s is taken for a Stable Diffusion 2.x that predicts %s, by the spread of a bias; a model's entry can set"
        " prediction_type",
        header.path,
        "v at 768 px" if velocity else "noise at 512 px",
    )
    return velocity
