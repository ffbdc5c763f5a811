"""Weights in folders and in hub repositories: which files are read, in what precision, and what identifies them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.families.stable_diffusion import StableDiffusion
from engine.files import find_files
from engine.loading import load_model
from recipe.errors import ModelError
from recipe.models import find_model
from testkit.hub import Hub, running_hub
from testkit.quirky import as_pickles, build, in_half, in_shards

_UNET = "unet/diffusion_pytorch_model"


def _load(folder: Path, dtype: str = "float32") -> StableDiffusion:
    return load_model(find_model(str(folder)), device="cpu", dtype=dtype)


def _revision(folder: Path) -> str:
    return find_files(find_model(str(folder))).revision


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fp16_alone_is_widened_to_the_dtype_that_was_asked_for(dtype: str, tmp_path: Path) -> None:
    half = _load(build(tmp_path / "half", in_half), dtype)
    exact = _load(build(tmp_path / "exact"))
    for module, other in ((half.unet, exact.unet), (half.vae, exact.vae), (half.text.models[0], exact.text.models[0])):
        expected = other.state_dict()
        for name, weight in module.state_dict().items():
            assert torch.equal(weight, expected[name].half().to(getattr(torch, dtype))), name


def test_full_precision_is_read_where_both_are_there(tmp_path: Path) -> None:
    folder = build(tmp_path / "both")
    whole = load_file(folder / f"{_UNET}.safetensors")
    zeros = {name: torch.zeros_like(weight).half() for name, weight in whole.items()}
    save_file(zeros, folder / f"{_UNET}.fp16.safetensors", {"format": "pt"})
    unet = _load(folder).unet
    assert torch.equal(unet.conv_in.weight, whole["conv_in.weight"])


def test_shards_are_read_and_are_part_of_what_identifies_a_model(tmp_path: Path) -> None:
    folder, whole = build(tmp_path / "shards", in_shards), build(tmp_path / "whole")
    shards = sorted(folder.glob("unet/*-of-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(_load(folder).unet.conv_in.weight, _load(whole).unet.conv_in.weight)
    before = _revision(folder)
    assert before == _revision(folder)
    weights = load_file(shards[-1])
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, shards[-1], {"format": "pt"})
    assert _revision(folder) != before


def test_shards_in_half_precision_are_read(tmp_path: Path) -> None:
    folder = build(tmp_path / "model")
    unet = _load(folder).unet
    shutil.rmtree(folder / "unet")
    unet.half().save_pretrained(folder / "unet", variant="fp16", max_shard_size="100KB")
    assert list(folder.glob("unet/*.index.fp16.json"))
    assert torch.equal(_load(folder).unet.conv_in.weight, unet.float().conv_in.weight)


def test_a_shard_that_is_not_there_is_no_model(tmp_path: Path) -> None:
    folder = build(tmp_path / "model", in_shards)
    next(folder.glob("unet/*-00001-of-*.safetensors")).unlink()
    with pytest.raises(ModelError, match="no weights of its unet"):
        _load(folder)


def test_pickles_are_refused_with_the_command_that_converts_them(tmp_path: Path) -> None:
    folder, original = build(tmp_path / "pickles", as_pickles), build(tmp_path / "original")
    with pytest.raises(ModelError, match=r"is a pickle.*python -m engine.convert FOLDER"):
        find_model(str(folder)).facts()
    command = [sys.executable, "-m", "engine.convert", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert torch.equal(_load(folder).unet.conv_in.weight, _load(original).unet.conv_in.weight)


def test_a_checkpoint_of_pickles_is_converted_and_runs_no_code(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "model.ckpt")
    command = [sys.executable, "-m", "engine.convert"]
    done = subprocess.run([*command, tmp_path / "model.ckpt"], capture_output=True, text=True, timeout=120)
    assert torch.equal(load_file(done.stdout.strip())["a"], torch.ones(2)), done.stderr
    (tmp_path / "bad.ckpt").write_bytes(b"cposix\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    done = subprocess.run([*command, tmp_path / "bad.ckpt"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "cannot be converted" in done.stderr
    assert not (tmp_path / "ran").exists()


_PROGRAM = """
import json, sys
from engine.files import find_files
from recipe.errors import ModelError
from recipe.models import find_model
try:
    files = find_files(find_model(sys.argv[1]))
    found = {"revision": files.revision, "halves": sorted(files.halves), "folder": str(files.folder)}
except ModelError as error:
    found = {"refused": str(error)}
print(json.dumps(found))
"""


def _find(hub: Hub, home: Path, **environment: str) -> dict[str, object]:
    """In a process of its own: huggingface_hub reads its settings when it is imported."""
    command = [sys.executable, "-c", _PROGRAM, "some/model"]
    known = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), **environment}
    done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_from_the_hub_shards_come_and_pickles_and_copies_do_not(tmp_path: Path) -> None:
    repository = build(tmp_path / "repository", in_shards)
    (repository / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    (repository / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"a copy")
    (repository / "dream.ckpt").write_bytes(b"never read")
    with running_hub(repositories={"some/model": repository}) as hub:
        found = _find(hub, tmp_path / "home")
        assert found["revision"] == hub.commit("some/model")
        fetched = hub.fetched()
        hub.asked.clear()
        assert _find(hub, tmp_path / "home") == found
        assert not hub.asked, "what is whole in the cache is not asked for again"
    assert [name for name in fetched if "-of-" in name] == [
        f"unet/{path.name}" for path in sorted(repository.glob("unet/*-of-*"))
    ]
    assert "unet/diffusion_pytorch_model.safetensors.index.json" in fetched
    assert not [name for name in fetched if name.endswith((".bin", ".ckpt")) or "fp16" in name]
    assert _find(hub, tmp_path / "home", HF_HUB_OFFLINE="1") == found
    assert torch.equal(_load(Path(str(found["folder"]))).unet.conv_in.weight, _load(repository).unet.conv_in.weight)


def test_a_repository_with_fp16_alone_is_fetched_and_named_so(tmp_path: Path) -> None:
    repository = build(tmp_path / "repository", in_half)
    with running_hub(repositories={"some/model": repository}) as hub:
        found = _find(hub, tmp_path / "home")
        commit = hub.commit("some/model")
    assert found["revision"] == f"{commit}+fp16"
    assert found["halves"] == ["text_encoder", "unet", "vae"]
    assert _find(hub, tmp_path / "home", HF_HUB_OFFLINE="1") == found


def test_weights_that_are_not_cached_cannot_be_had_offline(tmp_path: Path) -> None:
    repository = build(tmp_path / "repository")
    with running_hub(repositories={"some/model": repository}) as hub:
        _find(hub, tmp_path / "home")
        for blob in (tmp_path / "home").rglob("snapshots/*/unet/*.safetensors"):
            blob.unlink()
        found = _find(hub, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert "cannot be reached" in str(found["refused"])
