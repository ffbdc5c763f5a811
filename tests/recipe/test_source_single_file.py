"""One-file checkpoints: what a file holds is told from its header, and what is no model is refused by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from recipe.errors import ModelError
from recipe.facts import facts_of
from recipe.models import BUILTIN, find_model
from recipe.packaged import packaged, packaged_repository
from recipe.single_file import CLIP, OPEN_CLIP, UNET, VAE, XL_CLIP, XL_OPEN_CLIP
from recipe.source import configs_of
from testkit.headers import write_header

Shapes = dict[str, list[int]]
_CONV_IN = UNET + "input_blocks.0.0.weight"


@cache
def _real(kind: str) -> Shapes:
    """Names and shapes of a file of the real model of that kind."""
    from testkit.original_names import clip_weights, open_clip_weights, unet_weights, vae_weights
    from testkit.shippable import full_size

    parts = {name: module.state_dict() for name, module in full_size(kind).items()}
    weights = unet_weights(parts["unet"], packaged(kind, kind).component("unet")) | vae_weights(parts["vae"])
    if kind == "sdxl":
        weights |= clip_weights(parts["text_encoder"], XL_CLIP)
        weights |= open_clip_weights(parts["text_encoder_2"], XL_OPEN_CLIP)
    elif kind == "sd15":
        weights |= clip_weights(parts["text_encoder"], CLIP)
    else:
        weights |= open_clip_weights(parts["text_encoder"], OPEN_CLIP)
        for name in [name for name in weights if name.startswith(f"{OPEN_CLIP}transformer.resblocks.22.")]:
            weights[name.replace(".22.", ".23.")] = weights[name]
    return {name: list(weight.shape) for name, weight in weights.items()}


@pytest.mark.parametrize(
    ("kind", "metadata"), [("sd15", {}), ("sd20", {}), ("sd21v", {"modelspec.prediction_type": "v"}), ("sdxl", {})]
)
def test_files_of_the_real_sizes_have_the_published_configurations(
    kind: str, metadata: dict[str, str], tmp_path: Path
) -> None:
    configs = configs_of(str(write_header(tmp_path / "model.safetensors", _real(kind), metadata=metadata)))
    known = packaged(kind, str(tmp_path / "model.safetensors"))
    assert configs.index == known.index
    left_out = {"transformer_layers_per_block": 1, "use_linear_projection": False}  # diffusers' defaults
    for name, config in known.components.items():
        assert configs.component(name) == (left_out | config if name == "unet" else config), name


def test_keys_in_a_file_say_how_it_predicts(tmp_path: Path) -> None:
    shapes = _real("sdxl") | {"v_pred": [0], "ztsnr": [0]}
    facts = find_model(str(write_header(tmp_path / "noob_v.safetensors", shapes))).facts()
    assert facts.schedule["prediction_type"] == "v_prediction"
    assert facts.schedule["rescale_betas_zero_snr"] is True
    plain = find_model(str(write_header(tmp_path / "plain.safetensors", _real("sdxl")))).facts()
    assert plain.schedule["prediction_type"] == "epsilon"
    assert plain.window_px == 1024


def test_a_distilled_model_is_known_by_the_name_of_its_file(tmp_path: Path) -> None:
    spec = find_model(str(write_header(tmp_path / "dreamshaperXL_turbo.safetensors", _real("sdxl"))))
    assert spec.name == "dreamshaperXL_turbo"
    assert spec.facts().few_steps


def _without(*beginnings: str) -> Callable[[], Shapes]:
    return lambda: {name: shape for name, shape in _real("sd15").items() if not name.startswith(beginnings)}


def _with_channels(channels: int) -> Callable[[], Shapes]:
    return lambda: _real("sd15") | {_CONV_IN: [320, channels, 3, 3]}


def _only(*names: str) -> Callable[[], Shapes]:
    return lambda: {name: [2, 2] for name in names}


def _refiner() -> Shapes:
    kept = {name: shape for name, shape in _real("sdxl").items() if not name.startswith("conditioner.")}
    return kept | {"conditioner.embedders.0.model.token_embedding.weight": [49408, 1280]}


def _pruned() -> Shapes:
    gone = f"{UNET}output_blocks.0.1.transformer_blocks.9."
    return {name: shape for name, shape in _real("sdxl").items() if not name.startswith(gone)}


_REFUSED = {
    "an inpainting model": (_with_channels(9), "an inpainting model, with 9 input channels"),
    "instruct-pix2pix": (_with_channels(8), "given a picture beside the latents"),
    "a depth model": (_with_channels(5), "depth-guided"),
    "a refiner": (_refiner, "refiner"),
    "a LoRA of kohya's": (_only("lora_unet_down_blocks_0.lora_down.weight"), "holds a LoRA"),
    "a LoRA of diffusers": (_only("unet.down_blocks.0.attn1.to_q.lora_A.weight"), "holds a LoRA"),
    "a ControlNet": (_only("control_model.input_blocks.0.0.weight"), "holds a ControlNet"),
    "an embedding": (_only("emb_params"), "holds a textual inversion"),
    "a VAE": (_without(UNET, "cond_stage"), "holds a VAE alone"),
    "a bare VAE": (_only("encoder.conv_in.weight", "decoder.conv_in.weight"), "holds a VAE alone"),
    "a UNet": (_only("input_blocks.0.0.weight", "out.2.weight"), "holds a UNet alone"),
    "diffusers' UNet": (_only("conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"), "holds a UNet alone"),
    "a text encoder": (_only("text_model.embeddings.token_embedding.weight"), "holds a text encoder alone"),
    "Stable Diffusion 3": (_only("model.diffusion_model.joint_blocks.0.x.weight"), "holds a Stable Diffusion 3"),
    "Flux": (_only("double_blocks.0.img_attn.qkv.weight", "img_in.weight"), "holds a Flux"),
    "another transformer": (_only("model.diffusion_model.layers.0.weight"), "diffusion transformer"),
    "playground": (lambda: _real("sdxl") | {"edm_mean": [1]}, "EDM"),
    "scaled numbers": (lambda: _real("sdxl") | {"scaled_fp8": [0]}, "8-bit"),
    "something else": (_only("layer.weight"), "unknown kind"),
    "nothing": (dict, "holds no weight"),
    "no VAE": (_without(VAE), "lacks its VAE"),
    "no text encoder": (_without("cond_stage"), "lacks its text encoder"),
    "unCLIP": (lambda: _real("sd20") | {UNET + "label_emb.0.0.weight": [1280, 2048]}, "unCLIP"),
    "a pruned UNet": (_pruned, "SSD-1B"),
    "a block too few": (_without(UNET + "input_blocks.4."), "incomplete"),
    "no middle": (_without(UNET + "middle_block."), "SSD-1B"),
    "no output": (_without(UNET + "out."), "lacks the weight model.diffusion_model.out.2.weight"),
    "impossible shapes": (lambda: _real("sd15") | {UNET + "out.2.weight": []}, "no Stable Diffusion has"),
}


@pytest.mark.parametrize("what", _REFUSED)
def test_what_is_no_model_is_refused_by_name(what: str, tmp_path: Path) -> None:
    shapes, reason = _REFUSED[what]
    file = write_header(tmp_path / "model.safetensors", shapes())
    with pytest.raises(ModelError, match=reason) as refused:
        find_model(str(file)).facts()
    assert str(file) in str(refused.value)


def test_an_unknown_model_is_refused_with_what_it_says_of_itself(tmp_path: Path) -> None:
    file = write_header(tmp_path / "x.safetensors", {"a": [1]}, metadata={"modelspec.architecture": "kandinsky-6"})
    with pytest.raises(ModelError, match="kandinsky-6"):
        find_model(str(file)).facts()


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little") + b"{")
        file.truncate(200_000_000)


def _cut(path: Path) -> None:
    write_header(path, _real("sd15"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def _entry(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(len(text).to_bytes(8, "little") + text)


_DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "a web page": lambda path: path.write_bytes(b"<!DOCTYPE html><html>Sign in</html>"),
    "zeros": lambda path: path.write_bytes(bytes(64)),
    "a header of more than 100 MB": _huge,
    "a part of the header": lambda path: path.write_bytes((500).to_bytes(8, "little") + b'{"a": '),
    "a part of the weights": _cut,
    "no JSON": _entry(b'{"a": '),
    "no UTF-8": _entry(b'{"\xff": {}}'),
    "deep": _entry(b'{"a":' * 100_000),
    "no objects": _entry(b'{"a": 1}'),
    "negative": _entry(b'{"a": {"dtype": "F16", "shape": [-1], "data_offsets": [0, 0]}}'),
    "backwards": _entry(b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": [2, 0]}}'),
    "text for numbers": _entry(b'{"a": {"dtype": "F16", "shape": "x", "data_offsets": "yz"}}'),
    "metadata of another kind": _entry(b'{"__metadata__": 3}'),
    "huge numbers": _entry(b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 1' + b"0" * 5000 + b"]}}"),
}


@pytest.mark.parametrize("how", _DAMAGED)
def test_a_damaged_file_is_refused_and_raises_nothing_else(how: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    _DAMAGED[how](path)
    with pytest.raises(ModelError, match=r"model\.safetensors .*download it again"):
        find_model(str(path)).facts()


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".bin"])
def test_a_pickle_is_refused_with_the_command_that_converts_it(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ModelError, match=f"python -m engine.convert {path}"):
        find_model(str(path)).facts()


def test_a_file_that_is_not_there_is_no_hub_repository() -> None:
    with pytest.raises(ModelError, match="is no model"):
        find_model("models/missing.safetensors")


def test_a_path_may_have_an_at_sign(tmp_path: Path) -> None:
    path = write_header(tmp_path / "a@b.safetensors", _real("sd15"))
    assert find_model(str(path)).path == path


def test_a_file_is_judged_without_torch(tmp_path: Path) -> None:
    path = write_header(tmp_path / "model.safetensors", _real("sdxl"))
    program = (
        "import sys; from recipe.models import find_model; print(find_model(sys.argv[1]).facts().family);"
        "assert not {'torch', 'huggingface_hub', 'safetensors', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "sdxl", done.stderr


def test_every_built_in_repository_has_packaged_configurations() -> None:
    for spec in BUILTIN.values():
        if spec.name != "demo":
            configs = packaged_repository(spec.source, spec.revision)
            assert configs is not None
            assert facts_of(configs).window_px == (1024 if spec.name == "sdxl" else 512)
