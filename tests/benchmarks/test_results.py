"""A benchmark that is run again with the same results file makes only the measurements that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results import Results


def run(file: Path | None, names: str, **setting: int) -> list[str]:
    """A benchmark of several measurements; returns the names of those that it made."""
    made: list[str] = []
    results = Results(file, total=len(names), **setting)

    def measurement(name: str) -> dict[str, float]:
        made.append(name)
        return {"seconds": float(ord(name))}

    for name in names:
        assert results.measure(name, lambda name=name: measurement(name)) == {"seconds": float(ord(name))}
    return made


def test_measurements_in_the_file_are_not_made_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.jsonl"
    assert run(file, "ab") == ["a", "b"]
    assert run(file, "abc") == ["c"]
    assert run(file, "abc") == []


def test_measurements_of_another_setting_are_made_again(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert run(file, "a", width=1024) == ["a"]
    assert run(file, "a", width=2048) == ["a"]
    assert run(file, "a", width=1024) == []


def test_a_line_cut_off_by_a_kill_costs_only_its_own_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.jsonl"
    run(file, "ab")
    file.write_bytes(file.read_bytes()[:-20])
    assert run(file, "ab") == ["b"]
    assert f"{file}, line 2 is incomplete and is ignored" in capsys.readouterr().err
    assert run(file, "ab") == []


def test_without_a_file_everything_is_measured(tmp_path: Path) -> None:
    assert run(None, "ab") == run(None, "ab") == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


def test_progress_is_on_stderr_and_counts_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    run(None, "ab")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["[1 of 2] a: seconds 97", "[2 of 2] b: seconds 98"]
