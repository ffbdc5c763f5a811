"""Hub repositories: their small files alone, all of one commit, in a second, and from the cache without network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from testkit.hub import running_hub

_PROGRAM = """
import json, sys, time
from recipe.errors import ModelError
from recipe.models import find_model
for key in sys.argv[1:]:
    start = time.monotonic()
    try:
        facts = find_model(key).facts()
        found = {"window": facts.window, "family": facts.family, "prediction": facts.schedule["prediction_type"]}
    except ModelError as error:
        found = {"refused": str(error)}
    print(json.dumps(found | {"seconds": time.monotonic() - start}))
assert not {"torch", "transformers", "diffusers"} & set(sys.modules)
"""


@dataclass
class Asker:
    """Asks for facts in a process of its own: huggingface_hub reads its settings when it is imported."""

    home: Path
    url: str

    def __call__(self, *models: str, **environment: str) -> list[dict[str, object]]:
        known = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        known |= {"HF_HOME": str(self.home), "HF_ENDPOINT": self.url, **environment}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *models], env=known, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def repository(tiny_model: Path, tmp_path: Path) -> Path:
    """A folder whose files may be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "repository"))


def test_the_small_files_are_fetched_alone_and_serve_without_network(repository: Path, tmp_path: Path) -> None:
    with running_hub(repositories={"some/model": repository}) as hub:
        [facts] = Asker(tmp_path / "home", hub.url)("some/model")
        assert (facts["window"], facts["family"]) == (16, "stable-diffusion")
        configs = ["scheduler/scheduler_config.json", "text_encoder/config.json", "unet/config.json", "vae/config.json"]
        assert hub.fetched() == ["model_index.json", *configs]
        hub.asked.clear()
        [again] = Asker(tmp_path / "home", hub.url)("some/model")
        assert again["window"] == 16
        assert not hub.asked, "what is cached is not asked for again"
    [offline] = Asker(tmp_path / "home", hub.url)("some/model")
    assert offline["window"] == 16
    [said] = Asker(tmp_path / "home", hub.url)("some/model", HF_HUB_OFFLINE="1")
    assert said["window"] == 16


def test_a_fetch_that_broke_off_is_completed_of_the_same_commit(repository: Path, tmp_path: Path) -> None:
    with running_hub(repositories={"some/model": repository}) as hub:
        ask = Asker(tmp_path / "home", hub.url)
        ask("some/model")
        [snapshot] = (tmp_path / "home" / "hub").glob("models--some--model/snapshots/*")
        (snapshot / "vae" / "config.json").unlink()
        [offline] = ask("some/model", HF_HUB_OFFLINE="1")
        assert "not cached whole" in str(offline["refused"])
        [facts] = ask("some/model")
        assert facts["window"] == 16
        assert {line.split("/")[4] for line in hub.asked if "/resolve/" in line} == {snapshot.name}


def test_a_revision_is_a_commit_or_is_refused(repository: Path, tmp_path: Path) -> None:
    with running_hub(repositories={"some/model": repository}) as hub:
        pinned, wrong = Asker(tmp_path / "home", hub.url)(f"some/model@{hub.commit('some/model')}", "some/model@gone")
    assert pinned["window"] == 16
    assert "no such revision" in str(wrong["refused"])


def test_a_repository_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with running_hub(repositories={}) as hub:
        [facts] = Asker(tmp_path, hub.url)("some/typo")
    assert "the hub has no repository some/typo" in str(facts["refused"])


def test_a_private_repository_needs_the_token(repository: Path, tmp_path: Path) -> None:
    with running_hub(repositories={"some/model": repository}, private=frozenset({"some/model"})) as hub:
        ask = Asker(tmp_path / "home", hub.url)
        [refused] = ask("some/model")
        assert "HF_TOKEN" in str(refused["refused"])
        [facts] = ask("some/model", HF_TOKEN=hub.token)
        assert facts["window"] == 16


def test_a_repository_of_pickles_is_refused_before_anything_is_queued(repository: Path, tmp_path: Path) -> None:
    for path in repository.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with running_hub(repositories={"some/model": repository}) as hub:
        [facts] = Asker(tmp_path / "home", hub.url)("some/model")
    assert "python -m engine.convert" in str(facts["refused"])


def test_a_repository_of_one_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "dream.safetensors").write_bytes(b"")
    with running_hub(repositories={"some/dream": tmp_path / "repository"}) as hub:
        [facts] = Asker(tmp_path / "home", hub.url)("some/dream")
    assert "fetch its file dream.safetensors" in str(facts["refused"])


@pytest.mark.parametrize("hangs", ["/", "/some/model/resolve"])
def test_a_hub_that_hangs_is_given_up_within_seconds(hangs: str, repository: Path, tmp_path: Path) -> None:
    with running_hub(repositories={"some/model": repository}, hangs=(hangs,)) as hub:
        start = time.monotonic()
        first, second = Asker(tmp_path / "home", hub.url)("some/model", "other/model")
        assert time.monotonic() - start < 20
    assert float(str(first["seconds"])) < 12
    assert "refused" in first
    assert float(str(second["seconds"])) < 1, "what failed just now is not waited for again"


def test_without_network_the_built_in_models_are_known_and_others_refused_at_once(tmp_path: Path) -> None:
    ask = Asker(tmp_path, "http://127.0.0.1:9")  # where nothing listens
    *known, other = ask("1.5", "2.0", "2.1", "sdxl", "some/model")
    assert [facts["window"] for facts in known] == [64, 64, 64, 128]
    assert "cannot be reached" in str(other["refused"])
    assert sum(float(str(facts["seconds"])) for facts in (*known, other)) < 3
    again = ask("1.5", "some/model", HF_HUB_OFFLINE="1")
    assert (again[0]["window"], "offline" in str(again[1]["refused"])) == (64, True)
