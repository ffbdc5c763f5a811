"""The transitions of a job, each one atomic Lua script over the functions of `prelude.lua`."""

from __future__ import annotations

from importlib.resources import files

from jobs import keys
from jobs.envelope import WINDOW

# Interactive jobs handed out before a waiting batch job gets its turn.
SHARE = 4
# Part of Redis's `maxmemory` up to which jobs are accepted; the rest is for the work on those.
MEMORY_FOR_SUBMITS = 0.9


def source(name: str) -> str:
    """Lua source of a transition, ready to register: key names, shared functions, then the script itself.

    A server that is out of memory refuses a submit before its first write. Every other transition may exceed the limit
    by a little: what was accepted must go on, and only that frees memory again. (A script is refused as a whole or not
    at all, with a full disk too: Redis looks before it runs one.)
    """
    names = {
        "JOB": keys.JOB,
        "SEQUENCE": keys.SEQUENCE,
        "WAITING": keys.WAITING,
        "BATCH": keys.BATCH,
        "FAIRNESS": keys.FAIRNESS,
        "DISPATCHED": keys.DISPATCHED,
        "RUNNING": keys.RUNNING,
        "FINISHED": keys.FINISHED,
        "PACE": keys.PACE,
        "RQ_LIST": keys.RQ_LIST,
        "RQ_INTERMEDIATE": keys.RQ_INTERMEDIATE,
        "RQ_JOB": keys.RQ_JOB,
    }
    constants = ["#!lua" if name == "submit" else "#!lua flags=allow-oom"]
    constants += [f"local {constant} = '{key}'" for constant, key in names.items()]
    constants += [f"local WINDOW = {WINDOW}", f"local SHARE = {SHARE}"]
    constants.append(f"local MEMORY_FOR_SUBMITS = {MEMORY_FOR_SUBMITS}")
    folder = files(__name__)
    return "\n".join([*constants, (folder / "prelude.lua").read_text(), (folder / f"{name}.lua").read_text()])
