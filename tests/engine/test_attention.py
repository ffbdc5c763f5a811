"""The UNet's attention computes nothing twice for the views of a picture, and what it computes is diffusers' own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from engine.speed.attention import share_attention
from testkit.tiny import XL_UNET, tiny_unet

VIEWS = 3


_TEXT_FIRST = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
# UNets that differ in where their samples first meet the prompt.
_KINDS: dict[str, dict[str, Any]] = {
    "1.x and 2.x": _TEXT_FIRST,
    "text in the time embedding": _TEXT_FIRST | {"addition_embed_type": "text", "addition_embed_type_num_heads": 2},
    "text after a block without": {},
    "xl": XL_UNET,
}


@pytest.fixture(scope="module", params=_KINDS.values(), ids=_KINDS)
def unet(request: pytest.FixtureRequest) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return tiny_unet(16, **request.param).eval()


def inputs(unet: UNet2DConditionModel, halves: int) -> dict[str, Any]:
    """The same views once for each of `halves` prompts."""
    torch.manual_seed(1)
    crops = torch.randn(VIEWS, unet.config.in_channels, 16, 16)
    texts = torch.randn(halves, 77, unet.config.cross_attention_dim)
    added = None
    if unet.config.addition_embed_type == "text_time":
        size = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        added = {
            "text_embeds": torch.randn(halves, size).repeat_interleave(VIEWS, 0),
            "time_ids": torch.randint(0, 128, (VIEWS, 6)).repeat(halves, 1).float(),
        }
    return {
        "sample": crops.repeat(halves, 1, 1, 1),
        "timestep": torch.tensor(500.0),
        "encoder_hidden_states": texts.repeat_interleave(VIEWS, 0),
        "added_cond_kwargs": added,
    }


@torch.inference_mode()
@pytest.mark.parametrize("guided", [True, False])
def test_the_prediction_is_diffusers_own(unet: UNet2DConditionModel, guided: bool) -> None:
    given = inputs(unet, 2 if guided else 1)
    theirs = unet(**given).sample
    sharing = copy.deepcopy(unet)
    share_attention(sharing)
    ours = sharing(**given, cross_attention_kwargs={"branches": 2 if guided else 1, "one_text": True}).sample
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


@torch.inference_mode()
def test_a_batch_of_which_nothing_is_said_is_as_it_was(unet: UNet2DConditionModel) -> None:
    given = inputs(unet, 2)
    given["encoder_hidden_states"] = torch.randn_like(given["encoder_hidden_states"])  # a prompt for each sample
    sharing = copy.deepcopy(unet)
    share_attention(sharing)
    theirs = unet(**given).sample
    assert (sharing(**given).sample - theirs).norm() <= 1e-6 * theirs.norm()


@torch.inference_mode()
def test_tiles_of_several_texts_are_each_read_with_their_own(unet: UNet2DConditionModel) -> None:
    given = inputs(unet, 2)
    given["encoder_hidden_states"] = torch.randn_like(given["encoder_hidden_states"])
    sharing = copy.deepcopy(unet)
    share_attention(sharing)
    theirs = unet(**given).sample
    ours = sharing(**given, cross_attention_kwargs={"branches": 2, "one_text": False}).sample
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


@torch.inference_mode()
def test_a_prompt_is_read_once_and_what_comes_before_it_computed_once(unet: UNet2DConditionModel) -> None:
    sharing = copy.deepcopy(unet)
    share_attention(sharing)
    seen: dict[str, int] = {}
    for name, module in sharing.named_modules():
        if name.endswith(".to_k"):
            module.register_forward_pre_hook(lambda _module, args, name=name: seen.update({name: len(args[0])}))
    sharing(**inputs(unet, 2), cross_attention_kwargs={"branches": 2, "one_text": True})
    prompts = [samples for name, samples in seen.items() if ".attn2." in name]
    assert prompts
    assert set(prompts) == {2}
    before = {samples for name, samples in seen.items() if ".attn1." in name}
    knows_text = unet.config.addition_embed_type is not None
    assert before == ({2 * VIEWS} if knows_text else {VIEWS, 2 * VIEWS})
