"""`python -m tests.service.generators`: clients in other languages from `openapi.yaml`, by OpenAPI Generator (Java)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from testkit.processes import ROOT

LANGUAGES = ("python", "go", "java", "csharp", "typescript-fetch")
JAVA = shutil.which("java")


def generate(language: str, folder: Path) -> Path:
    """The folder of a client.

    Raises:
        RuntimeError: with the generator's complaints.
    """
    target = folder / language
    generator = Path(sys.executable).with_name("openapi-generator-cli")
    done = subprocess.run(
        [str(generator), "generate", "-i", str(ROOT / "openapi.yaml"), "-g", language, "-o", str(target)],
        capture_output=True,
        text=True,
    )
    faults = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line or "Exception" in line]
    if done.returncode or faults:
        raise RuntimeError(f"{language}: status {done.returncode}: {faults or done.stderr[-2000:]}")
    return target


def main() -> None:
    """Generate them all."""
    with tempfile.TemporaryDirectory() as folder:
        for language in LANGUAGES:
            files = sum(path.is_file() for path in generate(language, Path(folder)).rglob("*"))
            print(f"{language}: {files} files", flush=True)


if __name__ == "__main__":
    main()
