"""Puts the client's files into the wheel and the sdist: hatchling cannot select files above this folder by itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
# In an sdist the package lies beside this file, in a checkout at the repository's root.
PACKAGE = next(path for path in (HERE / "panoramas", HERE.parents[1] / "panoramas") if path.is_dir())


def version() -> str:
    """The version in `panoramas/_version.py`."""
    found = re.search(r'__version__ = "(.+)"', (PACKAGE / "_version.py").read_text())
    assert found
    return found[1]


class ClientFiles(BuildHookInterface[Any]):
    """Adds every file of `panoramas/` apart from `panoramas/server/`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for path in sorted(PACKAGE.rglob("*")):
            parts = path.relative_to(PACKAGE).parts
            if path.is_file() and parts[0] != "server" and "__pycache__" not in parts:
                build_data["force_include"][str(path)] = "/".join(("panoramas", *parts))
