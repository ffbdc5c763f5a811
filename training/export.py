"""Writes the trained parts to `engine/demo` in diffusers' component layout, as fp16 safetensors, with a model card."""

import json
import shutil
from pathlib import Path

import diffusers
import torch

from . import card, config, models, tokenizer, unet, vae

LIMIT = 30_000_000  # bytes of all files together
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": diffusers.__version__,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def size(folder: Path) -> int:
    """Bytes of all files under `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def train(settings: config.Settings) -> None:
    """The stage: exports the newest checkpoints, whatever was exported before."""
    saved = torch.load(unet.CHECKPOINT, weights_only=True, map_location="cpu")
    parts = unet.Parts()
    parts.load_state_dict(saved["average"])
    folder = config.EXPORT
    shutil.rmtree(folder, ignore_errors=True)
    vae.load().half().save_pretrained(folder / "vae")
    parts.unet.half().save_pretrained(folder / "unet")
    parts.text.half().save_pretrained(folder / "text_encoder")
    models.scheduler().save_pretrained(folder / "scheduler")
    tokenizer.load().save_pretrained(folder / "tokenizer")
    for name in ("vocab.json", "merges.txt"):  # the older layout of the same vocabulary
        shutil.copy(tokenizer.FOLDER / name, folder / "tokenizer" / name)
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
    (folder / "README.md").write_text(card.text(saved["step"], saved["minutes"], settings.device))
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # written for the owner alone
    if (total := size(folder)) > LIMIT:
        raise RuntimeError(f"{folder} has {total} bytes, more than {LIMIT}")
    config.log("export", step=saved["step"], minutes=saved["minutes"], megabytes=total / 1e6)
