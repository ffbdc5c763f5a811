"""What makes painting faster and changes nothing but rounding."""

from __future__ import annotations

from typing import Any

from torch import nn

from engine.speed.attention import share_attention
from engine.speed.upsampling import fold_upsampling, is_faster_folded


def accelerate(unet: Any, decoder: nn.Module) -> None:
    """Install the exact fast paths; call it once the modules are on their final device."""
    share_attention(unet)
    if is_faster_folded(unet.device, unet.dtype):
        fold_upsampling(unet)
        fold_upsampling(decoder)
