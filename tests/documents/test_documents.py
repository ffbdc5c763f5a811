"""What the documents say is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.settings import Settings, table
from testkit.processes import ROOT

DOCUMENTS = [
    path for path in sorted(ROOT.rglob("*.md")) if not {".venv", "data", "node_modules", "runs"} & set(path.parts)
]


def test_the_table_of_settings_is_the_settings() -> None:
    assert (ROOT / "docs" / "settings.md").read_text().endswith(table()), "run `python -m jobs.settings`"


def test_the_compose_file_sets_only_settings_there_are() -> None:
    for name in ("docker-compose.yml", "Dockerfile"):
        used = set(re.findall(r"PANORAMAS_([A-Z_]+)", (ROOT / name).read_text()))
        assert used <= {field.upper() for field in Settings.model_fields}, name


def test_the_readmes_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"(?:^    |`)make ([a-z-]+)", readme, re.MULTILINE))
    assert {"demo", "serve"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_fault_of_the_matrix_has_the_test_it_names() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in sources} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text()):
        assert (path.parent / target).exists(), target
