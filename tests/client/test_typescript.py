"""A TypeScript client generated from `openapi.yaml` does the main job, and its types are the service's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from testkit.processes import ROOT, Stack

SOURCE = ROOT / "tests" / "client" / "typescript"


def npm(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def tools() -> Path:
    """The generator and the compiler, as `package-lock.json` pins them; installed once into the ignored `.cache`."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm run the TypeScript client")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"node 20 or newer runs the TypeScript client, not {version.strip()}")
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = ROOT / ".cache" / f"typescript-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (folder / "node_modules").is_dir():
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        making.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, making)
        done = npm("ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", folder=making)
        if done.returncode:
            shutil.rmtree(making)
            if "ERR_" in done.stderr and "EINTEGRITY" in done.stderr:
                pytest.fail(done.stderr)
            pytest.skip(f"the npm registry has no answer: {done.stderr.strip().splitlines()[0]}")
        shutil.rmtree(folder, ignore_errors=True)
        making.rename(folder)
    return folder


def test_a_typescript_client_submits_waits_fetches_and_cancels(stack: Stack, tools: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(tools / "node_modules")
    for name in ("package.json", "tsconfig.json", "openapi-ts.config.js", "main.ts"):
        shutil.copy(SOURCE / name, tmp_path)
    description = str(ROOT / "openapi.yaml")
    generator = ["openapi-ts", "--input", description, "--no-log-file"]
    for command in (generator, ["tsc"]):
        done = subprocess.run(
            [str(tools / "node_modules" / ".bin" / command[0]), *command[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["node", "out/main.js", stack.url], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "done": "succeeded",
        "matches": True,
        "told": True,
        "canceled": "canceled",
        "pointer": "#/width",
    }
