"""The UNet, the text encoder and the noise schedule, as Stable Diffusion's own classes with small sizes."""

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import config

TEXT_WIDTH = 128
CHANNELS = (32, 64, 128, 192)  # at 64x64, 32x32, 16x16 and 8x8 latents
LAYERS = (0, 1, 1, 1)  # residual blocks a level on the way down, and one more on the way up


def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model of two layers with random weights."""
    marks = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            **marks,
        )
    )


def unet(channels: tuple[int, ...] = CHANNELS, layers: tuple[int, ...] = LAYERS) -> UNet2DConditionModel:
    """A UNet with random weights whose residual branches all start at zero.

    The first level goes down at once, as most of the work would lie there. The caption reaches the picture in two
    ways: by cross attention on the lowest level, and pooled, beside the timestep, in every residual block.
    """
    model = UNet2DConditionModel(
        sample_size=config.VIEW,
        in_channels=config.LATENT_CHANNELS,
        out_channels=config.LATENT_CHANNELS,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=8,
        time_embedding_dim=256,
        resnet_time_scale_shift="scale_shift",
        use_linear_projection=True,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    for name, parameter in model.named_parameters():
        if name.startswith("conv_out") or ".conv2." in name or ".proj_out." in name:
            nn.init.zeros_(parameter)
    return model


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule, rescaled so that the last timestep is pure noise (arXiv 2305.08891)."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )  # means nothing for trailing timesteps, but other values draw a warning


def flops(model: UNet2DConditionModel) -> int:
    """Floating-point operations of one forward pass of one 64x64 sample."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(
            torch.zeros(1, config.LATENT_CHANNELS, config.VIEW, config.VIEW),
            0,
            encoder_hidden_states=torch.zeros(1, 77, TEXT_WIDTH),
        )
    return counter.get_total_flops()
