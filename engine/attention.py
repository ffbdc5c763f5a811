"""Attention in a UNet whose batch is the views of one picture, once a half of the guidance: nothing is computed twice.

What comes out is what diffusers' own `AttnProcessor2_0` computes, to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock

# Kinds of blocks that meet the prompt in a BasicTransformerBlock or not at all.
_KNOWN = {"DownBlock2D", "AttnDownBlock2D", "CrossAttnDownBlock2D"}


def share_attention(unet: UNet2DConditionModel) -> None:
    """Give the transformer blocks of `unet` this attention.

    Called with `cross_attention_kwargs` of {"guided": True}, its batch must be the same views twice, once for each of
    two prompts; of {"guided": False}, views of one prompt. Called without, it does what it did.
    """
    first = _before_the_prompt(unet)
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            block.attn1.set_processor(ViewAttention(same_halves=block is first))
            block.attn2.set_processor(ViewAttention())


def _before_the_prompt(unet: UNet2DConditionModel) -> BasicTransformerBlock | None:
    """The block whose self-attention sees the same numbers in all halves; none where the time embedding holds text."""
    config = unet.config
    if config.addition_embed_type or config.class_embed_type or not set(config.down_block_types) <= _KNOWN:
        return None
    blocks = (block for block in unet.down_blocks.modules() if isinstance(block, BasicTransformerBlock))
    return next(blocks, None)


class ViewAttention:
    """An attention processor of diffusers.

    All views of a half read one prompt: its keys and values are computed once, and the queries of all these views stand
    before them in one row. With `same_halves` the first half is computed and the other is a copy of it, which is so
    until the prompt has been read for the first time.
    """

    def __init__(self, *, same_halves: bool = False) -> None:
        self._same_halves = same_halves

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        guided: bool | None = None,
    ) -> torch.Tensor:
        """Hidden states (batch, tokens, channels) and, for cross-attention, text (batch, text tokens, channels).

        Where `guided` is None nothing is known of the batch and nothing shared.

        Raises:
            ValueError: for an `attention_mask`, which no Stable Diffusion has.
        """
        if attention_mask is not None:
            raise ValueError("attention masks are not supported")
        halves = 2 if guided else 1
        if guided is None:
            source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            return _attend(attn, hidden_states, source)
        if encoder_hidden_states is not None:
            prompts = encoder_hidden_states.unflatten(0, (halves, -1))[:, 0]
            seen = _attend(attn, hidden_states.unflatten(0, (halves, -1)).flatten(1, 2), prompts)
            return seen.unflatten(1, (-1, hidden_states.shape[1])).flatten(0, 1)
        if self._same_halves:
            once = hidden_states.unflatten(0, (halves, -1))[0]
            return _attend(attn, once, once).repeat(halves, 1, 1)
        return _attend(attn, hidden_states, hidden_states)


def _attend(attn: Any, hidden_states: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    query, key, value = (
        projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for projected in (attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source))
    )
    seen = F.scaled_dot_product_attention(query, key, value)
    out: torch.Tensor = attn.to_out[0](seen.transpose(1, 2).flatten(2))
    return out
