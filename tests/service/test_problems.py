"""The table of problems and the code that reports them agree."""

from __future__ import annotations

import ast
import re

import pytest

from jobs.problems import PROBLEMS
from testkit.processes import ROOT

SOURCES = [path for room in ("service", "jobs", "worker", "engine") for path in (ROOT / room).rglob("*.py")]
STRINGS = {
    node.value
    for path in SOURCES
    if path != ROOT / "jobs" / "problems.py"
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}


def test_every_problem_in_the_table_is_reported_somewhere() -> None:
    assert set(PROBLEMS) <= STRINGS


def test_only_the_table_builds_the_type_of_a_problem() -> None:
    assert not [text for text in STRINGS if "urn:panoramas:problem:" in text]


@pytest.mark.parametrize("function", ["ProblemError", "fault"])
def test_every_reported_problem_is_in_the_table(function: str) -> None:
    calls = [found for path in SOURCES for found in re.findall(rf'\b{function}\(\s*"([^"]+)"', path.read_text())]
    assert calls
    assert set(calls) <= set(PROBLEMS)
