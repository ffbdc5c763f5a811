"""`python -m benchmarks.engine` with a tiny model, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from testkit.processes import ROOT


def compare(model: Path, file: Path) -> subprocess.CompletedProcess[str]:
    options = ["--widths", "576", "--steps", "2", "--rounds", "2", "--no-compile", "--dtypes", "float32", "--presets"]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", "--models", str(model), *options, "--results", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )


def test_all_implementations_are_compared_and_a_second_run_measures_nothing(tiny_sd: Path, tmp_path: Path) -> None:
    first = compare(tiny_sd, tmp_path / "results.jsonl")
    rows = [line for line in first.stdout.splitlines() if line.endswith("|")][2:]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names == [
        "the article's loop, float32",
        "diffusers, view_batch_size 1, float32",
        "diffusers, view_batch_size 8, float32",
        "diffusers, view_batch_size all, float32",
        "this engine, exact, float32",
    ]
    assert "[16 of 16] this engine, exact, float32, details" in first.stderr
    second = compare(tiny_sd, tmp_path / "results.jsonl")
    assert second.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]  # the first line has the day
    assert second.stderr.count(f": from {tmp_path / 'results.jsonl'}") == 16
