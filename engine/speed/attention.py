"""Attention in a UNet whose batch is the tiles of one picture, once a branch of guidance: nothing is computed twice.

The result is that of diffusers' own `AttnProcessor2_0`, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch.nn.attention import SDPBackend, sdpa_kernel

# Blocks that read the prompt in a BasicTransformerBlock or not at all.
_KNOWN = {"DownBlock2D", "AttnDownBlock2D", "CrossAttnDownBlock2D"}


def share_attention(unet: UNet2DConditionModel) -> None:
    """Install `TileAttention` in the transformer blocks of `unet`.

    Call the UNet then with `cross_attention_kwargs` of `branches`, how often the batch repeats the same tiles, and
    `one_text`, whether all tiles of a branch read one text. Called without, it computes as before.
    """
    first = _before_the_prompt(unet)
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            block.attn1.set_processor(TileAttention(same_in_all_branches=block is first))
            block.attn2.set_processor(TileAttention())


def _before_the_prompt(unet: UNet2DConditionModel) -> BasicTransformerBlock | None:
    """The block whose self-attention sees the same numbers in all branches, or None if the time embedding has text."""
    config = unet.config
    if config.addition_embed_type or config.class_embed_type or not set(config.down_block_types) <= _KNOWN:
        return None
    blocks = (block for block in unet.down_blocks.modules() if isinstance(block, BasicTransformerBlock))
    return next(blocks, None)


class TileAttention:
    """An attention processor of diffusers.

    Where all tiles of a branch read one text, its keys and values are computed once, and the queries of all these tiles
    stand before them in one row. With `same_in_all_branches` the first branch is computed and the others are copies of
    it, which holds until the prompt has been read for the first time.
    """

    def __init__(self, *, same_in_all_branches: bool = False) -> None:
        self._same_in_all_branches = same_in_all_branches

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        branches: int = 1,
        one_text: bool = False,
    ) -> torch.Tensor:
        """Hidden states (batch, tokens, channels) and, for cross-attention, text (batch, text tokens, channels).

        Raises:
            ValueError: for an `attention_mask`, which no Stable Diffusion has.
        """
        if attention_mask is not None:
            raise ValueError("attention masks are not supported")
        if encoder_hidden_states is None:
            if not self._same_in_all_branches or branches == 1:
                return _attend(attn, hidden_states, hidden_states)
            once = hidden_states.unflatten(0, (branches, -1))[0]
            return _attend(attn, once, once).repeat(branches, 1, 1)
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        if not one_text:
            return _attend(attn, hidden_states, encoder_hidden_states)
        texts = encoder_hidden_states.unflatten(0, (branches, -1))[:, 0]
        attended = _attend(attn, hidden_states.unflatten(0, (branches, -1)).flatten(1, 2), texts)
        return attended.unflatten(1, (-1, hidden_states.shape[1])).flatten(0, 1)


def _attend(attn: Any, hidden_states: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    query, key, value = (
        projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for projected in (attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source))
    )
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    attended = F.scaled_dot_product_attention(query, key, value)
    out: torch.Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
    return out


@contextmanager
def chosen_attention(backends: Sequence[SDPBackend]) -> Iterator[None]:
    """Use these kernels, in the order to be tried. What is compiled inside keeps them."""
    # torch keeps compiled code by the graph alone, and a later start would be given that of another choice. Set and
    # put back by hand: the configuration's own `patch` leaves some memory behind at every use.
    config: Any = torch.compiler.config
    before = config.cache_key_tag
    config.cache_key_tag = "+".join([before, *(backend.name for backend in backends)])
    try:
        with sdpa_kernel(list(backends), set_priority=True):
            yield
    finally:
        config.cache_key_tag = before
