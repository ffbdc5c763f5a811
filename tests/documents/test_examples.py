"""The recipes and the commands of the API's page, run as they are written, against a service that wants a key."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from testkit.processes import ROOT, Stack, running_stack

RECIPES = ROOT / "docs" / "recipes"
KEY = "a key of a test"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Stack]:
    """A model whose default is two steps, so that what the documents paint is painted soon."""
    models = json.dumps({"tiny": {"source": str(tiny_model), "num_inference_steps": 2, "view_stride": 16}})
    keys = f"anna:{hashlib.sha256(KEY.encode()).hexdigest()}"
    with running_stack(tmp_path_factory.mktemp("keyed"), models, PANORAMAS_API_KEYS=keys) as stack:
        yield stack


def run(stack: Stack, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A recipe as its first comment says: its address and key from the environment, the commands of this checkout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PANORAMAS_URL": stack.url, "PANORAMAS_API_KEY": KEY, "PATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def blocks(text: str) -> list[str]:
    """The shell commands of a document."""
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def need(*programs: str) -> None:
    if missing := [program for program in programs if not shutil.which(program)]:
        pytest.skip(f"{', '.join(missing)} not installed")


def assert_painted(path: Path) -> None:
    with Image.open(path) as picture:
        assert picture.size == (1024, 512)


def test_the_curl_recipe_paints_and_says_why_not(keyed: Stack, tmp_path: Path) -> None:
    need("bash", "curl", "jq", "sha256sum")
    done = run(keyed, tmp_path, str(RECIPES / "panorama.sh"), "hills", "out.png")
    assert (done.returncode, "out.png: OK" in done.stdout) == (0, True), done.stderr
    assert_painted(tmp_path / "out.png")
    refused = run(keyed, tmp_path, str(RECIPES / "panorama.sh"), "a" * 60_000)
    assert refused.returncode != 0
    assert "#/prompt" in refused.stderr


def test_the_python_recipes_paint(keyed: Stack, tmp_path: Path) -> None:
    done = run(keyed, tmp_path, sys.executable, str(RECIPES / "panorama.py"), "hills", "out.png")
    assert (done.returncode, "succeeded: 100%" in done.stderr) == (0, True), done.stderr
    assert_painted(tmp_path / "out.png")
    assert_painted(tmp_path / "out.webp")
    refused = run(keyed, tmp_path, sys.executable, str(RECIPES / "panorama.py"), "")
    assert (refused.returncode, "#/prompt" in refused.stderr) == (1, True)
    done = run(keyed, tmp_path, sys.executable, str(RECIPES / "panoramas_async.py"), "hills", "2", ".")
    assert sorted(done.stdout.split()) == ["0.png", "1.png"], done.stderr
    assert_painted(tmp_path / "1.png")


def test_the_javascript_recipe_paints(keyed: Stack, tmp_path: Path) -> None:
    need("node")
    done = run(keyed, tmp_path, "node", str(RECIPES / "panorama.mjs"), "hills", "out.png")
    assert (done.returncode, "succeeded done 1" in done.stderr) == (0, True), done.stderr
    assert_painted(tmp_path / "out.png")
    refused = run(keyed, tmp_path, "node", str(RECIPES / "panorama.mjs"), "a" * 60_000)
    assert (refused.returncode, "prompt" in refused.stderr) == (1, True)


def test_the_batch_recipe_paints_every_prompt(keyed: Stack, tmp_path: Path) -> None:
    need("bash", "jq")
    (tmp_path / "prompts.txt").write_text("hills\n\ndünen am meer\n")
    for _ in range(2):
        done = run(keyed, tmp_path, str(RECIPES / "batch.sh"), "prompts.txt", "pictures")
        assert (done.returncode, "2 of 2 pictures" in done.stdout) == (0, True), done.stderr
    assert_painted(tmp_path / "pictures" / "3.png")


def test_the_commands_of_the_apis_page_work_in_their_order(keyed: Stack, tmp_path: Path) -> None:
    need("bash", "curl", "jq", "sha256sum")
    commands = blocks((ROOT / "docs" / "api.md").read_text())
    assert len(commands) > 5
    done = run(keyed, tmp_path, "bash", "-euxo", "pipefail", "-c", "".join(commands))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "panorama.png: OK" in done.stdout
    with Image.open(tmp_path / "panorama.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (1024, 512))
    assert shutil.unpack_archive(tmp_path / "pictures.zip", tmp_path / "pictures") is None
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_the_examples_of_the_regions_page_paint(keyed: Stack, tmp_path: Path) -> None:
    need("bash", "curl", "jq")
    text = (ROOT / "docs" / "regions.md").read_text()
    python, *_ = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for command in (("bash", "-euc", "".join(blocks(text))), (sys.executable, "-c", python)):
        done = run(keyed, tmp_path, *command)
        assert done.returncode == 0, done.stderr + done.stdout
        with Image.open(tmp_path / "regions.png") as picture:
            recipe = json.loads(picture.text["recipe"])  # type: ignore[attr-defined]
            assert picture.size == (1024, 512)
        assert [region["prompt"] for region in recipe["regions"]] == [
            "mountains at sunset by a lake",
            "a city at sunset",
        ]
        assert recipe["region_feather"] == 0.25
        (tmp_path / "regions.png").unlink()
