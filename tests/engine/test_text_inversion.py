"""Textual inversions: painted as diffusers paints them, from an allow-list, refused by name where they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from engine.families.stable_diffusion import StableDiffusion
from engine.loading import load_model
from recipe.errors import ModelError
from recipe.models import parse_models
from testkit.clip import encoded, with_real_vocabulary
from testkit.parity import relative_rms
from testkit.tiny import build_tiny_model, build_tiny_xl

WIDTH = 32  # of a tiny text encoder
CAT = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(5)) * 0.02


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_real_vocabulary(build_tiny_model(tmp_path_factory.mktemp("sd") / "model", window=16))


@pytest.fixture(scope="module")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_real_vocabulary(build_tiny_xl(tmp_path_factory.mktemp("xl") / "model"))


def load(folder: Path, embeddings: dict[str, Path]) -> StableDiffusion:
    entry = {"source": str(folder), "embeddings": {name: str(path) for name, path in embeddings.items()}}
    return load_model(parse_models(json.dumps({"mine": entry}))["mine"], device="cpu")


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cat") / "cat.safetensors"
    save_file({"emb_params": CAT}, path)
    return path


@pytest.fixture(scope="module")
def sd(sd_folder: Path, cat: Path) -> StableDiffusion:
    return load(sd_folder, {"Cat-Toy": cat})


@torch.inference_mode()
def states(model: StableDiffusion, prompt: str, syntax: str = "a1111") -> torch.Tensor:
    return encoded(model, prompt, syntax=syntax).positive.states


@pytest.mark.parametrize("prompt", ["a photo of <cat-toy> in snow", "<cat-toy>, <cat-toy>"])
def test_the_embedding_is_that_of_diffusers(sd_folder: Path, sd: StableDiffusion, tmp_path: Path, prompt: str) -> None:
    save_file({"<cat-toy>": CAT}, tmp_path / "cat.safetensors")
    pipeline = StableDiffusionPipeline.from_pretrained(sd_folder)
    pipeline.load_textual_inversion(str(tmp_path / "cat.safetensors"))
    with torch.no_grad():
        theirs, _ = pipeline.encode_prompt(prompt, "cpu", 1, False)
    assert relative_rms(states(sd, prompt, "plain"), theirs) <= 1e-6


def test_names_are_called_as_diffusers_a1111_and_comfyui_do(sd: StableDiffusion) -> None:
    expected = states(sd, "a <cat-toy>, snow")
    for prompt in ("a cat-toy, snow", "a Cat-Toy, snow", "a embedding:cat-toy, snow", "a EMBEDDING:cat-toy, snow"):
        assert torch.equal(states(sd, prompt), expected), prompt
    for prompt in ("a cat-toys, snow", "a mycat-toy", "a cat-toy-2", "a cat-toy.v2", "a ca\u017f-toy", "\u00e9cat-toy"):
        assert torch.equal(states(sd, prompt), words_alone(sd, prompt)), prompt
    assert torch.equal(states(sd, "cat-toy", "plain"), words_alone(sd, "cat-toy"))


def words_alone(model: StableDiffusion, prompt: str) -> torch.Tensor:
    """The states of words alone."""
    tokenizer: Any = model.text.tokenizers[0]
    ids = tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        return model.text.models[0](ids)[0]


def test_an_embedding_has_the_weight_of_its_brackets_and_is_never_split(sd: StableDiffusion) -> None:
    assert not torch.equal(states(sd, "a (cat-toy:1.4)"), states(sd, "a cat-toy"))
    long = states(sd, "a " * 74 + "cat-toy")
    assert long.shape[1] == 154
    assert torch.equal(long[:, 77:], states(sd, "cat-toy"))


def test_an_embedding_that_is_cut_is_told_by_its_name(sd: StableDiffusion) -> None:
    (notice,) = encoded(sd, "a " * 75 + "<cat-toy> castle").notices
    assert "<cat-toy>" in notice.detail
    assert "castle" in notice.detail


def test_words_are_embedded_as_without_embeddings(sd_folder: Path, sd: StableDiffusion) -> None:
    bare = load(sd_folder, {})
    for prompt in (",", "a photo of a cat", "a " * 90):
        assert torch.equal(states(sd, prompt), states(bare, prompt))


def test_sdxl_has_vectors_for_both_encoders_and_its_whole_text_still_ends_at_the_end_mark(
    xl_folder: Path, tmp_path: Path
) -> None:
    save_file({"clip_l": CAT, "clip_g": 2 * CAT}, tmp_path / "cat.safetensors")
    xl, bare = load(xl_folder, {"cat": tmp_path / "cat.safetensors"}), load(xl_folder, {})
    words = encoded(xl, "a photo").positive
    assert torch.equal(words.pooled, encoded(bare, "a photo").positive.pooled)
    called = encoded(xl, "a <cat> photo").positive
    assert not torch.equal(called.states[..., :WIDTH], encoded(bare, "a <cat> photo").positive.states[..., :WIDTH])
    encoder = xl.text.models[1]
    # Start, a, three vectors, photo: the end mark is the seventh, though the vectors have higher ids.
    ids = torch.tensor([[49406, 320, 49408, 49409, 49410, 1125, 49407, *[0] * 70]])
    with torch.inference_mode():
        last = encoder(ids, output_hidden_states=True)
        at_the_end = encoder.text_projection(encoder.text_model(ids).last_hidden_state[:, 6])
    assert torch.equal(called.pooled, last.text_embeds)
    assert torch.allclose(called.pooled, at_the_end)


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("write_file", "reason"),
    [
        (
            lambda path: write(path, {"emb_params": torch.ones(2, 48)}),
            "have 48 numbers, and this model's have 32",
        ),
        (lambda path: write(path, {"clip_l": CAT, "clip_g": CAT.clone()}), "another kind of model"),
        (lambda path: write(path, {"emb_params": torch.ones(76, WIDTH)}), "76 vectors"),
        (lambda path: write(path, {"emb_params": CAT * float("nan")}), "finite"),
        (lambda path: path.write_bytes(b"no tensors"), "cannot be read"),
        (lambda _path: None, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_when_the_model_is_loaded(
    sd_folder: Path, tmp_path: Path, write_file: Callable[[Path], object], reason: str
) -> None:
    write_file(tmp_path / "dog.safetensors")
    with pytest.raises(ModelError, match="embedding 'dog'") as refused:
        load(sd_folder, {"dog": tmp_path / "dog.safetensors"})
    assert reason in str(refused.value)


def test_an_embedding_of_one_encoder_is_refused_by_sdxl(xl_folder: Path, cat: Path) -> None:
    with pytest.raises(ModelError, match=r"embedding 'cat' was made for another kind of model.*2 text encoders"):
        load(xl_folder, {"cat": cat})


def test_the_revision_names_the_embeddings(sd_folder: Path, sd: StableDiffusion, cat: Path) -> None:
    bare, renamed = load(sd_folder, {}), load(sd_folder, {"other": cat})
    assert sd.revision.startswith(f"{bare.revision}+embeddings:")
    assert sd.revision != renamed.revision
    assert sd.revision == load(sd_folder, {"Cat-Toy": cat}).revision
