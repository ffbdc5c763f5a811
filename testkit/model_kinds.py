"""Kinds of models as they are found in the world, each a tiny one, and what must become of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from testkit.quirky import (
    Change,
    as_pickles,
    edited,
    scheduler,
    unet,
    vae,
    without_vocabulary,
    without_weights,
    xl_unet,
)


@dataclass(frozen=True)
class Kind:
    """A tiny model with `changes`; `refused` is in the reason where it must not load, else it paints as diffusers does.

    `request` are fields of the request that is painted; `special` says what sets the kind apart.
    """

    name: str
    special: str
    changes: tuple[Change, ...] = ()
    xl: bool = False
    refused: str = ""
    request: dict[str, Any] = field(default_factory=dict)


_UNET, _VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
_XL_SCHEDULE = {"scheduler": "euler"}

PAINTED = (
    Kind("Stable Diffusion 1.x", "DDIM, epsilon"),
    Kind(
        "converted checkpoint",
        "PNDM without clip_sample, steps_offset, set_alpha_to_one",
        (scheduler("PNDMScheduler", ("clip_sample", "steps_offset", "set_alpha_to_one"), skip_prk_steps=True),),
    ),
    Kind(
        "converted checkpoint, ddpm",
        "the same",
        (edited("scheduler/scheduler_config.json", ("clip_sample",)),),
        request={"scheduler": "ddpm"},
    ),
    Kind("offset 0", "steps_offset is 0", (scheduler("DDIMScheduler", steps_offset=0),)),
    Kind("Stable Diffusion 2.1 at 768", "v-prediction", (scheduler("DDIMScheduler", prediction_type="v_prediction"),)),
    Kind(
        "zero terminal SNR",
        "rescaled betas, v-prediction, trailing",
        (
            scheduler(
                "DDIMScheduler",
                prediction_type="v_prediction",
                rescale_betas_zero_snr=True,
                timestep_spacing="trailing",
            ),
        ),
    ),
    Kind("linear betas", "beta_schedule linear", (scheduler("DDPMScheduler", beta_schedule="linear"),)),
    Kind(
        "cosine betas",
        "beta_schedule squaredcos_cap_v2",
        (scheduler("DDIMScheduler", beta_schedule="squaredcos_cap_v2"),),
    ),
    Kind(
        "linspace",
        "timestep_spacing linspace",
        (scheduler("EulerDiscreteScheduler", timestep_spacing="linspace"),),
        request={"scheduler": "euler"},
    ),
    Kind(
        "Karras in the configuration",
        "use_karras_sigmas, painted by name",
        (scheduler("EulerDiscreteScheduler", use_karras_sigmas=True),),
        request={"scheduler": "euler_karras"},
    ),
    Kind(
        "DPM-Solver++",
        "solver_order 2",
        (scheduler("DPMSolverMultistepScheduler", algorithm_type="dpmsolver++", solver_order=2),),
        request={"scheduler": "dpmpp_2m"},
    ),
    Kind("sample size as a list", "sample_size [16, 16]", (edited("unet/config.json", sample_size=[16, 16]),)),
    Kind("no guidance", "guidance_scale 1", request={"guidance_scale": 1.0}),
    Kind("less than no guidance", "guidance_scale 0.5", request={"guidance_scale": 0.5}),
    Kind(
        "Turbo's recipe",
        "guidance_scale 0, trailing",
        (scheduler("EulerAncestralDiscreteScheduler", timestep_spacing="trailing"),),
        request={"guidance_scale": 0.0, "scheduler": "euler_a", "num_inference_steps": 4},
    ),
    Kind("LCM-distilled", "time_cond_proj_dim: the guidance scale is embedded", (unet(time_cond_proj_dim=16),)),
    Kind("BK-SDM", "no middle block", (unet(mid_block_type=None),)),
    Kind(
        "linear projections",
        "use_linear_projection, heads by level",
        (unet(use_linear_projection=True, attention_head_dim=(2, 4)),),
    ),
    Kind("normed text", "cross_attention_norm layer_norm", (unet(cross_attention_norm="layer_norm"),)),
    Kind("upcast attention", "upcast_attention", (unet(upcast_attention=True),)),
    Kind("scale and shift", "resnet_time_scale_shift scale_shift", (unet(resnet_time_scale_shift="scale_shift"),)),
    Kind("centred samples", "center_input_sample", (unet(center_input_sample=True),)),
    Kind("text in both attentions", "only_cross_attention", (unet(only_cross_attention=True),)),
    Kind("another VAE scale", "scaling_factor 0.5", (vae(scaling_factor=0.5),)),
    Kind("VAE without force_upcast", "the key is absent", (edited("vae/config.json", ("force_upcast",)),)),
    Kind("SDXL", "two text encoders, time ids", xl=True, request=_XL_SCHEDULE),
    Kind(
        "SDXL, empty negative prompt",
        "force_zeros_for_empty_prompt",
        xl=True,
        request=_XL_SCHEDULE | {"negative_prompt": ""},
    ),
    Kind(
        "SDXL fine-tune",
        "force_zeros_for_empty_prompt is absent",
        (edited("model_index.json", ("force_zeros_for_empty_prompt",)),),
        xl=True,
        request=_XL_SCHEDULE | {"negative_prompt": ""},
    ),
    Kind(
        "SSD-1B",
        "layers by block, nested",
        (xl_unet(transformer_layers_per_block=[[1], [2]], reverse_transformer_layers_per_block=[[2, 1], [1, 1]]),),
        xl=True,
        request=_XL_SCHEDULE,
    ),
    Kind(
        "normalised latents",
        "latents_mean and latents_std in an SDXL's VAE",
        (vae(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.5, 1.0, 2.0]),),
        xl=True,
        request=_XL_SCHEDULE,
    ),
)

REFUSED = (
    Kind("inpainting", "9 input channels", (unet(in_channels=9),), refused="in_channels is 9"),
    Kind("InstructPix2Pix, Marigold", "8 input channels", (unet(in_channels=8),), refused="in_channels is 8"),
    Kind("depth", "5 input channels", (unet(in_channels=5),), refused="in_channels is 5"),
    Kind(
        "x4-upscaler",
        "7 input channels, class labels",
        (unet(in_channels=7, num_class_embeds=1000),),
        refused="in_channels is 7",
    ),
    Kind(
        "unCLIP",
        "class embedding",
        (unet(class_embed_type="projection", projection_class_embeddings_input_dim=8),),
        refused="class_embed_type",
    ),
    Kind("learned variance", "8 output channels", (unet(out_channels=8),), refused="out_channels is 8"),
    Kind(
        "picture prompts",
        "encoder_hid_dim_type",
        (edited("unet/config.json", encoder_hid_dim_type="image_proj", encoder_hid_dim=16),),
        refused="encoder_hid_dim_type",
    ),
    Kind(
        "parts of two models",
        "cross_attention_dim does not fit",
        (unet(cross_attention_dim=48),),
        refused="cross_attention_dim is 48",
    ),
    Kind(
        "views that are not square",
        "sample_size [16, 24]",
        (edited("unet/config.json", sample_size=[16, 24]),),
        refused="views of [16, 24]",
    ),
    Kind("playground-v2.5", "EDM schedule", (scheduler("EDMDPMSolverMultistepScheduler"),), refused="EDM"),
    Kind("CosXL", "EDM schedule", (scheduler("EDMEulerScheduler"),), refused="EDM"),
    Kind(
        "flow matching",
        "FlowMatchEulerDiscreteScheduler",
        (scheduler("FlowMatchEulerDiscreteScheduler"),),
        refused="flow matching",
    ),
    Kind(
        "unknown scheduler",
        "CMStochasticIterativeScheduler",
        (scheduler("CMStochasticIterativeScheduler"),),
        refused="is not known",
    ),
    Kind(
        "unknown betas",
        "beta_schedule sigmoid",
        (scheduler("DDPMScheduler", beta_schedule="sigmoid"),),
        refused="beta_schedule",
    ),
    Kind("pixel thresholds", "thresholding", (scheduler("DDIMScheduler", thresholding=True),), refused="thresholding"),
    Kind(
        "attention in the decoder",
        "AttnUpDecoderBlock2D",
        (vae(up_block_types=("AttnUpDecoderBlock2D",) * 4),),
        refused="AttnUpDecoderBlock2D",
    ),
    Kind("transparent pictures", "a VAE of 4 colours", (vae(out_channels=4),), refused="out_channels is 4"),
    Kind(
        "another VAE",
        "AsymmetricAutoencoderKL",
        (edited("model_index.json", vae=["diffusers", "AsymmetricAutoencoderKL"]),),
        refused="not a Stable Diffusion",
    ),
    Kind(
        "another text encoder",
        "RobertaSeriesModelWithTransformation",
        (edited("model_index.json", text_encoder=["alt", "RobertaSeriesModelWithTransformation"]),),
        refused="not a Stable Diffusion",
    ),
    Kind(
        "another tokenizer",
        "XLMRobertaTokenizer",
        (edited("model_index.json", tokenizer=["transformers", "XLMRobertaTokenizer"]),),
        refused="XLMRobertaTokenizer",
    ),
    Kind(
        "incomplete UNet",
        "a missing weight",
        (without_weights(_UNET, like="conv_out.weight"),),
        refused="conv_out.weight",
    ),
    Kind(
        "incomplete VAE",
        "a missing weight",
        (without_weights(_VAE, like="decoder.conv_in.weight"),),
        refused="decoder.conv_in.weight",
    ),
    Kind(
        "incomplete text encoder",
        "a missing weight",
        (without_weights("text_encoder/model.safetensors", like="q_proj.weight"),),
        refused="q_proj.weight",
    ),
    Kind("no vocabulary", "a tokenizer of three tokens", (without_vocabulary,), refused="vocabulary"),
    Kind(
        "no length",
        "no model_max_length",
        (edited("tokenizer/tokenizer_config.json", ("model_max_length",)),),
        refused="model_max_length",
    ),
    Kind("pickles", ".bin files alone", (as_pickles,), refused="safetensors"),
    Kind(
        "SDXL refiner",
        "5 size ids",
        (xl_unet(projection_class_embeddings_input_dim=5 * 8 + 16),),
        xl=True,
        refused="refiners",
    ),
    Kind("SDXL inpainting", "9 input channels", (xl_unet(in_channels=9),), xl=True, refused="in_channels is 9"),
)
