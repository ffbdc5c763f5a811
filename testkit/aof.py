"""Reads the history of jobs from the server's append-only file, sharing no code with what it checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from jobs import keys

TERMINAL = {"succeeded", "failed", "canceled"}


def commands(folder: Path) -> Iterator[list[bytes]]:
    """Every write in order, including those of scripts. The server must not have rewritten the file."""
    for path in sorted(folder.glob("**/*.incr.aof"), key=lambda path: int(path.name.split(".")[-3])):
        with path.open("rb") as file:
            while line := file.readline():
                if not line.startswith(b"*"):
                    continue  # an annotation
                yield [file.read(int(file.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]


def histories(folder: Path) -> dict[str, list[str]]:
    """The states that each job entered, in order."""
    entered: dict[str, list[str]] = defaultdict(list)
    prefix = keys.JOB.encode()
    for command in commands(folder):
        if command[0].upper() == b"HSET" and command[1].startswith(prefix):
            changes = dict(zip(command[2::2], command[3::2], strict=True))
            if state := changes.get(b"state"):
                entered[command[1].removeprefix(prefix).decode()].append(state.decode())
    return dict(entered)


def faults_of(history: list[str]) -> list[str]:
    """What is wrong with a history of states; empty if nothing is."""
    faults = []
    ends = [state for state in history if state in TERMINAL]
    if len(ends) > 1:
        faults.append(f"ended {len(ends)} times: {ends}")
    if ends and history[-1] not in (ends[-1], "expired"):
        faults.append(f"{history[-1]} after {ends[-1]}")
    if not ends:
        faults.append(f"lost: {history[-1]}")
    return faults
