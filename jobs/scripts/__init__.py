"""The transitions of a job, each one atomic Lua script over the functions of `prelude.lua`."""

from __future__ import annotations

from importlib.resources import files

from jobs import keys
from jobs.envelope import WINDOW


def source(name: str) -> str:
    """Lua source of a transition, ready to register: key names, shared functions, then the script itself."""
    names = {
        "JOB": keys.JOB,
        "SEQUENCE": keys.SEQUENCE,
        "WAITING": keys.WAITING,
        "DISPATCHED": keys.DISPATCHED,
        "RUNNING": keys.RUNNING,
        "FINISHED": keys.FINISHED,
        "PACE": keys.PACE,
        "RQ_LIST": keys.RQ_LIST,
        "RQ_INTERMEDIATE": keys.RQ_INTERMEDIATE,
        "RQ_JOB": keys.RQ_JOB,
    }
    constants = [f"local {name} = '{key}'" for name, key in names.items()]
    constants.append(f"local WINDOW = {WINDOW}")
    folder = files(__name__)
    return "\n".join([*constants, (folder / "prelude.lua").read_text(), (folder / f"{name}.lua").read_text()])
