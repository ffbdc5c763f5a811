"""The client's distribution, installed into an empty environment: `panoramas` alone, and small."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from panoramas._version import __version__
from testkit.processes import ROOT

pytestmark = pytest.mark.slow

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def build(target: str, project: Path, folder: Path) -> Path:
    """A wheel or an sdist by this environment's hatchling, as `make wheels` builds it."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl" if target == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT / "clients" / "python", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The `bin` folder of an environment that holds the wheel and its dependencies, nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "-c", ROOT / "constraints.txt", wheel], capture_output=True, text=True, env=ENVIRONMENT
    )
    if done.returncode and "NewConnectionError" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)


def test_the_wheel_holds_the_client_alone_and_is_small(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"panoramas", f"panoramas-{__version__}.dist-info"}
    assert not [name for name in names if name.startswith("panoramas/server") or "__pycache__" in name]
    assert wheel.stat().st_size < 200_000


def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", ROOT / "clients" / "python", tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / f"panoramas-{__version__}", tmp_path)
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_the_client_can_be_imported_and_its_commands_say_what_they_do(installed: Path, tmp_path: Path) -> None:
    code = "import panoramas; panoramas.Client; panoramas.AsyncClient; print(panoramas.__version__)"
    assert run(tmp_path, installed / "python", "-c", code).stdout.strip() == __version__
    shown = run(tmp_path, installed / "panoramas", "--help")
    assert (shown.returncode, "generate" in shown.stdout) == (0, True), shown.stderr
    assert run(tmp_path, installed / "panoramas", "--version").stdout.strip() == f"panoramas {__version__}"


@pytest.mark.parametrize("command", [["up"], ["api"], ["worker"], ["webhooks"], ["demo", "hills"]], ids=lambda c: c[0])
def test_a_command_of_the_server_says_in_one_line_that_it_is_not_installed(
    installed: Path, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "service").mkdir()  # an application may have a package of that name
    (tmp_path / "service" / "__init__.py").write_text("raise RuntimeError('not ours')")
    done = run(tmp_path, installed / "panoramas", *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("panoramas: the server is not installed")
    assert done.stderr.count("\n") == 1


def test_the_licence_of_the_client_is_the_projects() -> None:
    assert (ROOT / "clients" / "python" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
