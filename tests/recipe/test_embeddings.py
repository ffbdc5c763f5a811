"""The allow-list of textual inversions, and the entries of models that have their own."""

from __future__ import annotations

import json

import pytest

from jobs.settings import Settings
from recipe.embeddings import parse_embeddings
from recipe.errors import ModelError
from recipe.models import parse_models


def test_a_list_has_names_and_files() -> None:
    assert parse_embeddings(" cat=/e/cat.safetensors, b.2-x=rel/b.safetensors,") == {
        "cat": "/e/cat.safetensors",
        "b.2-x": "rel/b.safetensors",
    }
    assert parse_embeddings("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "cat",
        "=x.safetensors",
        "a b=x.safetensors",
        "<cat>=x.safetensors",
        "cat.=x.safetensors",
        "cat=x.pt",
        "cat=",
        "cat=a.safetensors,cat=b.safetensors",
        "cat=a.safetensors,Cat=b.safetensors",
        "x" * 65 + "=a.safetensors",
    ],
)
def test_what_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        parse_embeddings(text)
    with pytest.raises(ValueError, match="embeddings"):
        Settings(embeddings=text)


def test_an_entry_of_a_model_is_checked_when_the_list_is_read() -> None:
    for wrong in (["cat.safetensors"], {"cat": "cat.bin"}, {"cat": 3}, "cat"):
        with pytest.raises(ModelError, match="embedding"):
            parse_models(json.dumps({"demo": {"embeddings": wrong}}))


def test_every_model_has_those_of_the_setting_beside_its_own() -> None:
    models = json.dumps({"demo": {"embeddings": {"cat": "own.safetensors"}}, "2.1": {}})
    catalog = Settings(models=models, embeddings="cat=all.safetensors,dog=dog.safetensors").catalog
    assert catalog["demo"].embeddings == {"cat": "own.safetensors", "dog": "dog.safetensors"}
    assert catalog["2.1"].embeddings == {"cat": "all.safetensors", "dog": "dog.safetensors"}


def test_an_entry_has_a_clip_skip_of_its_own_that_is_checked() -> None:
    assert parse_models('{"demo": {"clip_skip": 1}}')["demo"].defaults["clip_skip"] == 1
    for wrong in (-1, "2", 1.5, True):
        with pytest.raises(ModelError, match="clip_skip"):
            parse_models(json.dumps({"demo": {"clip_skip": wrong}}))
