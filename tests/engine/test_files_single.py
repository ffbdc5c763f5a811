"""One-file checkpoints: the picture of the same model as a folder, and without any network."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.batching import MicroBatches
from engine.loading import load_model
from engine.paint import paint
from recipe.errors import ModelError
from recipe.fields import Recipe
from recipe.models import find_model, parse_models
from recipe.request import resolve
from testkit.original_names import write_single_file
from testkit.shippable import build_shippable

_LAST_LAYER = "cond_stage_model.model.transformer.resblocks.22."


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shippable(tmp_path_factory.mktemp("sd15") / "folder", "sd15")


@pytest.fixture(scope="module")
def sd15_file(sd15: Path) -> Path:
    return write_single_file(sd15, sd15.parent / "dreamshaper_8.safetensors")


def _painted(source: Path, **fields: object) -> np.ndarray:
    model = load_model(find_model(str(source)), device="cpu")
    window = model.facts.window_px
    asked = {"prompt": "hills!", "width": window, "height": window, "num_inference_steps": 2, "seed": 3, **fields}
    return paint(model, resolve(asked, model.spec), batches=MicroBatches(1)).pixels


def test_a_file_and_a_folder_of_one_model_give_the_same_picture(sd15: Path, sd15_file: Path) -> None:
    assert np.array_equal(_painted(sd15_file), _painted(sd15))


def test_the_same_for_sdxl_with_its_two_text_encoders(tmp_path: Path) -> None:
    folder = build_shippable(tmp_path / "folder", "sdxl")
    file = write_single_file(folder, tmp_path / "file.safetensors")
    fields = {"num_inference_steps": 1, "negative_prompt": "people"}
    assert np.array_equal(_painted(file, **fields), _painted(folder, **fields))


@pytest.mark.parametrize(("kind", "spread", "window"), [("sd20", 0.05, 64), ("sd21v", 0.2, 96)])
def test_the_same_for_2_x_of_which_the_last_text_layer_is_not_used(
    kind: str, spread: float, window: int, tmp_path: Path
) -> None:
    folder = build_shippable(tmp_path / "folder", kind)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    name = "up_blocks.1.attentions.1.transformer_blocks.0.norm1.bias"
    save_file(load_file(weights) | {name: spread * torch.randn(64)}, weights, {"format": "pt"})
    file = write_single_file(folder, tmp_path / "file.safetensors")
    last = {name: weight for name, weight in load_file(file).items() if name.startswith(_LAST_LAYER)}
    unused = {name.replace(".22.", ".23."): weight for name, weight in last.items()}
    write_single_file(folder, file, **unused)
    facts = find_model(str(file)).facts()
    expected = "epsilon" if kind == "sd20" else "v_prediction"
    assert (facts.window, facts.schedule["prediction_type"]) == (window, expected)
    fields = {"num_inference_steps": 1}
    assert np.array_equal(_painted(file, **fields), _painted(folder, **fields))


def test_a_file_is_painted_by_the_command_line_without_network(sd15_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine", "--model", str(sd15_file), "--prompt", "hills", "--steps", "1"]
    command += ["--H", "512", "--W", "512", "--out", str(tmp_path / "out.png")]
    # Any connection would be to a port where nothing listens, and the cache is empty.
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_is_named_by_its_content(sd15_file: Path) -> None:
    model = load_model(parse_models(f"mine={sd15_file}")["mine"], device="cpu")
    assert model.revision == f"sha256:{hashlib.sha256(sd15_file.read_bytes()).hexdigest()[:16]}"
    assert model.spec.name == "mine"


def test_half_precision_is_widened(sd15: Path, tmp_path: Path) -> None:
    whole = write_single_file(sd15, tmp_path / "whole.safetensors")
    halved = {name: weight.half() for name, weight in load_file(whole).items() if weight.is_floating_point()}
    save_file(halved, tmp_path / "half.safetensors")
    model = load_model(find_model(str(tmp_path / "half.safetensors")), device="cpu")
    exact = load_model(find_model(str(whole)), device="cpu")
    for module, other in (
        (model.unet, exact.unet),
        (model.vae, exact.vae),
        (model.text.models[0], exact.text.models[0]),
    ):
        for name, weight in module.state_dict().items():
            assert weight.dtype == torch.float32
            assert torch.equal(weight, other.state_dict()[name].half().float()), name


def test_a_missing_weight_is_refused_by_name_and_one_too_many_is_logged(
    sd15_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = load_file(sd15_file)
    dropped = "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.bias"
    save_file({name: weight for name, weight in weights.items() if name != dropped}, tmp_path / "less.safetensors")
    with pytest.raises(ModelError, match=r"text_encoder of .* lacks 1 weights, such as .*layers.1.mlp.fc2.bias"):
        load_model(find_model(str(tmp_path / "less.safetensors")), device="cpu")
    extra = "model.diffusion_model.time_embed.cond_proj.weight"
    save_file(weights | {extra: torch.zeros(1)}, tmp_path / "more.safetensors")
    with caplog.at_level(logging.WARNING):
        load_model(find_model(str(tmp_path / "more.safetensors")), device="cpu")
    assert extra in caplog.text


def test_names_of_old_merges_are_understood(sd15_file: Path, tmp_path: Path) -> None:
    """Some old tools left `text_model.` out."""
    renamed = {name.replace("text_model.", ""): weight for name, weight in load_file(sd15_file).items()}
    save_file(renamed, tmp_path / "old.safetensors")
    old, new = (load_model(find_model(str(path)), device="cpu") for path in (tmp_path / "old.safetensors", sd15_file))
    hills = Recipe(prompt="hills")
    assert torch.equal(old.encode(hills).positive.states, new.encode(hills).positive.states)
