"""CONTRIBUTING's lists of files: each change is made on a copy of the tree, and touches the files listed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recipe.request import REQUEST_FIELDS
from testkit.processes import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
CODE = ("engine", "jobs", "panoramas", "recipe", "service", "worker")


def section(title: str) -> str:
    found = re.search(rf"^### {title}\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def listed(title: str) -> list[tuple[str, list[str]]]:
    """The files of a list in their order, each with the names that its line puts into backticks."""
    lines = re.findall(r"^- `([^`]+)`: (.*)$", section(title), re.MULTILINE)
    assert lines, title
    return [(path, re.findall(r"`([^` ]+)`", rest)) for path, rest in lines]


class Copy:
    """A copy of the tree without weights, in which a test makes a change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("*.safetensors", "__pycache__")
        for name in CODE:
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in ("openapi.yaml", "docs/settings.md", "docker-compose.yml"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self._before = self._contents()

    def insert(self, path: str, anchor: str, line: str) -> None:
        """Put `line` before the first occurrence of `anchor`."""
        text = (self.folder / path).read_text()
        assert anchor in text, f"{path} no longer has {anchor!r}"
        (self.folder / path).write_text(text.replace(anchor, line + anchor, 1))

    def python(self, *arguments: str) -> str:
        """Run Python in the copy, with the copy's packages alone."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write_openapi(self) -> dict[str, dict]:
        """What `make openapi` does; returns the properties of a request."""
        (self.folder / "openapi.yaml").write_text(self.python("-m", "service.openapi"))
        schemas = yaml.safe_load((self.folder / "openapi.yaml").read_text())["components"]["schemas"]
        return schemas["PanoramaRequest"]["properties"]

    def changed(self) -> set[str]:
        after = self._contents()
        return {path for path in after if after[path] != self._before.get(path)}

    def _contents(self) -> dict[str, bytes]:
        files = (path for path in self.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


def test_a_scheduler_takes_the_two_files_listed(copy: Copy) -> None:
    copy.insert("recipe/schedulers.py", '        "ddim": Sch', '        "another": Scheduler("DDIMScheduler"),\n')
    properties = copy.write_openapi()
    assert "another" in properties["scheduler"]["anyOf"][0]["enum"]
    assert "another" in copy.python("-m", "engine", "--help")
    copy.python("-c", "from recipe.fields import Recipe; Recipe(prompt='hills', scheduler='another')")
    assert copy.changed() == {path for path, _ in listed("A scheduler")}
    assert len(copy.changed()) == 2


@pytest.mark.slow
def test_a_request_field_takes_the_files_listed_to_be_on_every_interface(copy: Copy) -> None:
    field = '    sharpness: int = _of(0, kind=int, minimum=0, maximum=11, since_first=False, help="Layers left out")\n'
    copy.insert("recipe/fields.py", "    def __post_init__", field + "\n")
    copy.insert(
        "panoramas/params.py", "    seed: Annotated", '    sharpness: Annotated[int | None, Flag("Layers left out.")]\n'
    )
    assert "sharpness" in copy.write_openapi()
    assert "--sharpness" in copy.python("-m", "engine", "--help")
    assert "--sharpness" in copy.python("-m", "panoramas", "generate", "--help")
    code = (
        "from dataclasses import asdict\n"
        "from recipe.fields import Recipe\n"
        "from service.schemas.jobs import ResolvedInput\n"
        "from service.schemas.requests import PanoramaRequest\n"
        "from recipe.models import BUILTIN\n"
        "recipe = PanoramaRequest(prompt='hills', sharpness=2).resolve(BUILTIN['demo'], max_width=8192)\n"
        "assert recipe.sharpness == 2 and asdict(recipe)['sharpness'] == 2\n"
        "older = {name: value for name, value in asdict(recipe).items() if name != 'sharpness'}\n"
        "assert ResolvedInput(model='demo', **older).sharpness == 0, 'a job of an older release is read'\n"
    )
    copy.python("-c", code)
    files = [path for path, _ in listed("A request field")]
    interfaces = [path for path in files if not path.startswith("engine/")]
    assert copy.changed() == set(interfaces)
    assert len(interfaces) + 1 <= 6, "and one file of the engine"


@pytest.mark.slow
def test_a_model_family_takes_the_files_listed(copy: Copy, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    components = json.loads(index.read_text())
    index.write_text(json.dumps({**components, "unet": ["diffusers", "AnotherModel"]}))
    (copy.folder / "engine/families/another.py").write_text(
        "from engine.families.stable_diffusion import StableDiffusion\n\n\nclass Another(StableDiffusion):\n    pass\n"
    )
    copy.insert("recipe/configs.py", "\n\n@dataclass", '\nANOTHER = "another"')
    copy.insert("recipe/facts.py", "from recipe.errors", "from recipe.configs import ANOTHER\n")
    stable_diffusion = '    ("UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel", None): STABLE_DIFFUSION'
    copy.insert(
        "recipe/facts.py",
        stable_diffusion,
        stable_diffusion.replace("UNet2DCondition", "Another").replace("STABLE_DIFFUSION", "ANOTHER") + ",\n",
    )
    copy.insert("engine/families/__init__.py", "\nFAMILIES", "from engine.families.another import Another\n")
    copy.insert("engine/families/__init__.py", "STABLE_DIFFUSION: StableDiffusion", '"another": Another, ')
    code = (
        "from engine.loading import load_model\n"
        "from recipe.models import find_model\n"
        f"model = load_model(find_model({str(tmp_path / 'model')!r}), device='cpu')\n"
        "assert type(model).__name__ == 'Another'\n"
    )
    copy.python("-c", code)
    files = {path.replace("NAME", "another") for path, _ in listed("A model family")}
    assert copy.changed() == files
    assert len(files) <= 4


def test_an_option_of_the_store_takes_the_files_listed(copy: Copy) -> None:
    copy.insert(
        "jobs/settings.py",
        "    host: str = Field(",
        '    store_endpoint: str | None = Field(None, description="Address of the object store")\n',
    )
    document = (copy.folder / "docs/settings.md").read_text()
    head = document[: document.index("| Variable")]
    (copy.folder / "docs/settings.md").write_text(head + copy.python("-m", "jobs.settings"))
    assert "PANORAMAS_STORE_ENDPOINT" in (copy.folder / "docs/settings.md").read_text()
    copy.insert("docker-compose.yml", "  PANORAMAS_STORE_URL:", "  PANORAMAS_STORE_ENDPOINT:\n")
    # The store is made from the settings in one place, so an option reaches it without its callers.
    makers = [
        path.relative_to(ROOT)
        for name in ("service", "worker", "jobs")
        for path in (ROOT / name).rglob("*.py")
        if re.search(r"\bImageStore\(", path.read_text().replace("class ImageStore", ""))
    ]
    assert makers == []
    files = {path for path, _ in listed("An option of the image store")}
    assert copy.changed() | {"jobs/store.py"} == files
    assert len(files) <= 4


@pytest.mark.parametrize(
    "title",
    ["A scheduler", "A request field", "A model family", "An option of the image store", "A control on the page"],
)
def test_a_list_names_files_and_symbols_that_exist(title: str) -> None:
    for path, names in listed(title):
        if "NAME" in path:
            continue
        text = (ROOT / path).read_text()
        for name in names:
            if not name.startswith(("make", "python")):
                assert name.split(".")[-1] in text, f"{path}: {name}"


def test_the_names_that_the_page_gives_to_fields_are_fields_of_a_request() -> None:
    script = (ROOT / "service/page/form.js").read_text()
    words = re.search(r"const LABELS = \{(.*?)\n\};", script, re.DOTALL)
    front = re.search(r"const FRONT = \[(.*?)\]", script)
    assert words
    assert front
    named = set(re.findall(r"^\s+(\w+):", words[1], re.MULTILINE)) | set(re.findall(r'"(\w+)"', front[1]))
    assert named <= set(REQUEST_FIELDS)
