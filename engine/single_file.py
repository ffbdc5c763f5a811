"""One-file checkpoints: weights by the original's names, renamed by diffusers' own converters.

Nothing is asked of the hub: the configurations follow from the file (`recipe.single_file`), the vocabulary is shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from diffusers.loaders import single_file_utils as converters
from safetensors import safe_open

from engine.clip_vocabulary import clip_tokenizer
from engine.files import check_keys
from recipe.configs import ModelConfigs
from recipe.errors import ModelError
from recipe.single_file import CLIP, OPEN_CLIP, UNET, VAE, XL_CLIP, XL_OPEN_CLIP

Weights = dict[str, torch.Tensor]

# How the names of a component's weights begin; a file has one of them.
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "unet": (UNET,),
    "vae": (VAE,),
    "text_encoder": (XL_CLIP, CLIP, OPEN_CLIP),
    "text_encoder_2": (XL_OPEN_CLIP,),
}
# Kept in files and computed by transformers.
_NO_WEIGHTS = ("position_ids", "logit_scale")


@dataclass(frozen=True, slots=True)
class SingleFile:
    """A model in one `.safetensors` file."""

    path: Path
    configs: ModelConfigs
    revision: str

    def load(self, component: str, kind: Any, dtype: torch.dtype) -> Any:
        """See `engine.files.ModelFiles`."""
        config = dict(self.configs.component(component))
        with init_empty_weights():
            module = kind.from_config(config) if issubclass(kind, ModelMixin) else kind(kind.config_class(**config))
        prefix, read = self._read(component)
        converted, unplaced = _converted(prefix, read, module, config)
        weights = {name: weight.to(dtype).contiguous() for name, weight in converted.items()}
        report = module.load_state_dict(weights, strict=False, assign=True)
        check_keys(f"{component} of {self.path}", report.missing_keys, [*report.unexpected_keys, *unplaced])
        module.eval()
        return module

    def load_tokenizer(self, component: str, kind: Any, model: Any) -> Any:
        """See `engine.files.ModelFiles`."""
        tokenizer = clip_tokenizer(kind, pad_token=self.configs.component(component)["pad_token"])
        if len(tokenizer) != model.config.vocab_size:
            raise ModelError(
                f"{self.path} has a text encoder of {model.config.vocab_size} tokens, and CLIP's vocabulary has"
                f" {len(tokenizer)}: use the model as a folder in diffusers' layout, with its own tokenizer"
            )
        return tokenizer

    def _read(self, component: str) -> tuple[str, Weights]:
        """The prefix of a component's weights, and the weights with it."""
        with safe_open(self.path, framework="pt") as file:
            there = list(file.keys())
            for prefix in _PREFIXES[component]:
                if names := [name for name in there if name.startswith(prefix)]:
                    return prefix, {name: file.get_tensor(name) for name in names if not name.endswith(_NO_WEIGHTS)}
        raise ModelError(f"{self.path} lacks its {component}")


def _converted(prefix: str, read: Weights, module: Any, config: dict[str, Any]) -> tuple[Weights, list[str]]:
    """Weights by diffusers' or transformers' names, and the names of those that the converter does not know."""
    if prefix == UNET:
        converted = converters.convert_ldm_unet_checkpoint(read, config)
        used = {id(weight) for weight in converted.values()}
        return converted, [name for name, weight in read.items() if id(weight) not in used]
    if prefix == VAE:
        return converters.convert_ldm_vae_checkpoint(read, config), []
    if prefix in (CLIP, XL_CLIP):
        converted = converters.convert_ldm_clip_checkpoint(read)
    else:
        converted = converters.convert_open_clip_checkpoint(module, _used_layers(prefix, read, module), prefix=prefix)
    # Some files lack `text_model.`, and so do transformers' classes of some versions.
    inside = "text_model." if hasattr(module, "text_model") else ""
    return {_renamed(name, inside): weight for name, weight in converted.items()}, []


def _used_layers(prefix: str, read: Weights, module: Any) -> Weights:
    """Without the layers that are not used: of open_clip's in 2.x, the last."""
    start = f"{prefix}transformer.resblocks."
    layers = module.config.num_hidden_layers
    return {
        name: weight
        for name, weight in read.items()
        if not name.startswith(start) or int(name[len(start) :].split(".")[0]) < layers
    }


def _renamed(name: str, inside: str) -> str:
    bare = name.removeprefix("text_model.")
    return bare if bare.startswith("text_projection") else inside + bare
