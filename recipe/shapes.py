"""From the shapes of a one-file checkpoint's weights to the configurations of its components.

What shapes do not tell (activation functions, groups of a normalisation, the size of a view) stays as in `known`, the
configuration of the well-known model of that kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.errors import ModelError

# Channels of a head in every text encoder of Stable Diffusion, and in the UNets of 2.x and XL.
_HEAD = 64


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes of one component, by its names of weights."""

    path: Path
    prefix: str
    shapes: Mapping[str, tuple[int, ...]]

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.shapes

    def __getitem__(self, name: str) -> tuple[int, ...]:
        """Raises:
        ModelError: when the file has no such weight.
        """
        if name not in self:
            raise ModelError(f"{self.path} lacks the weight {self.prefix}{name}: it is incomplete; download it again")
        return self.shapes[self.prefix + name]

    def count(self, parent: str) -> int:
        """How many numbered parts `parent` has, such as 12 of `input_blocks.`; they must be 0 to 11."""
        start = self.prefix + parent
        found = {name[len(start) :].split(".")[0] for name in self.shapes if name.startswith(start)}
        numbers = sorted(int(part) for part in found if part.isdecimal())
        if numbers != list(range(len(numbers))):
            raise ModelError(f"{self.path}: weights of {start}* are missing: it is incomplete; download it again")
        return len(numbers)


def unet_config(shapes: Shapes, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of a UNet with the original's names.

    Raises:
        ModelError: when its blocks differ from Stable Diffusion's in what a configuration cannot say.
    """
    blocks = shapes.count("input_blocks.")
    downs = [block for block in range(blocks) if f"input_blocks.{block}.0.op.weight" in shapes]
    each = downs[0] if downs else blocks  # resnets of a level, and what leads to the next one
    levels = len(downs) + 1
    if downs != [each * level for level in range(1, levels)] or not (
        blocks == shapes.count("output_blocks.") == each * levels
    ):
        raise _pruned(shapes)
    starts = [1 + each * level for level in range(levels)]
    channels = [_first(shapes, f"input_blocks.{start}.0.out_layers.3.weight") for start in starts]
    depths = _depths(shapes, each, starts)
    attended = [_has_attention(shapes, start) for start in starts]
    text = next((name for name in shapes.shapes if ".attn2.to_k.weight" in name and "diffusion_model" in name), "")
    found = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": _first(shapes, "out.2.weight"),
        "block_out_channels": channels,
        "layers_per_block": each - 1,
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attended],
        "up_block_types": ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attended)],
        "cross_attention_dim": shapes[text.removeprefix(shapes.prefix)][-1],
        "use_linear_projection": len(shapes["middle_block.1.proj_in.weight"]) == 2,
        "transformer_layers_per_block": depths if len(set(depths)) > 1 else depths[0],
    }
    if isinstance(known["attention_head_dim"], list):  # diffusers' name for the number of heads
        found["attention_head_dim"] = [max(1, count // _HEAD) for count in channels]
    if "label_emb.0.0.weight" in shapes:
        found["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][-1]
    return {**known, **found}


def _depths(shapes: Shapes, each: int, starts: list[int]) -> list[int]:
    """Transformer layers of each level; where a level has none, it is 1, or the middle block's for the last."""
    middle = _layers(shapes, "middle_block.1")
    depths = []
    for level, start in enumerate(starts):
        down = {_layers(shapes, f"input_blocks.{block}.1") for block in range(start, start + each - 1)}
        first = each * (len(starts) - 1 - level)
        up = {_layers(shapes, f"output_blocks.{block}.1") for block in range(first, first + each)}
        if len(down | up) != 1:
            raise _pruned(shapes)
        depths.append(down.pop())
    if not middle or depths[-1] not in (0, middle):
        raise _pruned(shapes)
    return [depth or 1 for depth in depths[:-1]] + [middle]


def _layers(shapes: Shapes, block: str) -> int:
    return shapes.count(f"{block}.transformer_blocks.")


def _has_attention(shapes: Shapes, block: int) -> bool:
    return _layers(shapes, f"input_blocks.{block}.1") > 0


def _first(shapes: Shapes, name: str) -> int:
    return shapes[name][0]


def _pruned(shapes: Shapes) -> ModelError:
    return ModelError(
        f"{shapes.path}: layers of the UNet were removed (as in SSD-1B), which a one-file checkpoint cannot describe;"
        " use the model as a folder in diffusers' layout"
    )


def vae_config(shapes: Shapes, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of a VAE with the original's names."""
    levels = shapes.count("decoder.up.")
    channels = [_first(shapes, f"decoder.up.{level}.block.0.conv2.weight") for level in range(levels)]
    return {
        **known,
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": _first(shapes, "decoder.conv_out.weight"),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": shapes.count("decoder.up.0.block.") - 1,
    }


def clip_config(shapes: Shapes, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of a text encoder with OpenAI's names, as transformers has them."""
    inside = "" if "embeddings.token_embedding.weight" in shapes else "text_model."
    vocabulary, hidden = shapes[f"{inside}embeddings.token_embedding.weight"]
    return {
        **known,
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "max_position_embeddings": _first(shapes, f"{inside}embeddings.position_embedding.weight"),
        "num_hidden_layers": shapes.count(f"{inside}encoder.layers."),
        "intermediate_size": _first(shapes, f"{inside}encoder.layers.0.mlp.fc1.weight"),
        "num_attention_heads": max(1, hidden // _HEAD),
    }


def open_clip_config(shapes: Shapes, known: Mapping[str, Any], *, layers: int | None = None) -> dict[str, Any]:
    """Of a text encoder with open_clip's names; of its layers, the first `layers` are used."""
    vocabulary, hidden = shapes["token_embedding.weight"]
    there = shapes.count("transformer.resblocks.")
    found = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "max_position_embeddings": _first(shapes, "positional_embedding"),
        "num_hidden_layers": there if layers is None else min(layers, there),
        "intermediate_size": _first(shapes, "transformer.resblocks.0.mlp.c_fc.weight"),
        "num_attention_heads": max(1, hidden // _HEAD),
    }
    if "Projection" in known["architectures"][0]:
        found["projection_dim"] = shapes["text_projection"][1]
    return {**known, **found}
