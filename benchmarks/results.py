"""Measurements that a long benchmark shows at once and keeps, so that a later run need not make them again."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Values = dict[str, Any]


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--results FILE.jsonl`, the same for every benchmark."""
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE.jsonl",
        help="keep measurements here; those made with the same options on the same machine are not made again. "
        "After a change of the code start a new file",
    )


def processor() -> str:
    """The processor's name as the operating system gives it, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def progress(text: str) -> None:
    """Show `text` on stderr, where it does not mix with the results."""
    print(text, file=sys.stderr, flush=True)


class Results:
    """The measurements of one benchmark in one setting.

    Args:
        file: JSON lines to read earlier measurements from and to append new ones to; None keeps nothing.
        total: how many measurements there will be, for the progress.
        setting: what makes two measurements comparable: the benchmark, its options, versions.
            The processor is added.
    """

    def __init__(self, file: Path | None, *, total: int, **setting: Any) -> None:
        self._file = file
        self._setting = {"processor": processor(), **json.loads(json.dumps(setting))}
        self._known = self._read()
        self._total = total
        self._done = 0
        self._measured_seconds: list[float] = []

    def measure(self, name: str, measurement: Callable[[], Values]) -> Values:
        """The values of `name`, from the file if they are in it, else measured now and appended to it."""
        self._done += 1
        if name in self._known:
            progress(f"[{self._done} of {self._total}] {name}: from {self._file}")
            return self._known[name]
        start = time.monotonic()
        values: Values = json.loads(json.dumps(measurement()))
        self._measured_seconds.append(time.monotonic() - start)
        self._known[name] = values
        self._append(name, values)
        progress(f"[{self._done} of {self._total}{self._time_left()}] {name}{_numbers(values)}")
        return values

    def skip(self, count: int) -> None:
        """`count` of the expected measurements will not be made."""
        self._total -= count

    def has(self, name: str) -> bool:
        """Whether `name` need not be measured."""
        return name in self._known

    def _time_left(self) -> str:
        left = (self._total - self._done) * sum(self._measured_seconds) / len(self._measured_seconds)
        return f", about {left / 60:.0f} min left" if left >= 60 else ""

    def _read(self) -> dict[str, Values]:
        if self._file is None or not self._file.exists():
            return {}
        known = {}
        for number, line in enumerate(self._file.read_text().splitlines(), 1):
            try:
                record = json.loads(line)
            except ValueError:
                progress(f"{self._file}, line {number} is incomplete and is ignored")
                continue
            if record["setting"] == self._setting:
                known[record["name"]] = record["values"]
        return known

    def _append(self, name: str, values: Values) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # an earlier run was killed while it wrote
                    file.write(b"\n")
            file.write(json.dumps({"name": name, "values": values, "setting": self._setting}).encode() + b"\n")


def _numbers(values: Values) -> str:
    """The numbers among `values`, with three digits."""
    numbers = [f"{name} {value:.3g}" for name, value in values.items() if isinstance(value, int | float)]
    return f": {', '.join(numbers)}" if numbers else ""
