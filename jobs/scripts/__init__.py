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
        "EVENTS": keys.EVENTS,
        "PREVIEW": keys.PREVIEW,
        "INDEX": keys.INDEX,
        "BATCH": keys.BATCH,
        "BATCH_JOBS": keys.BATCH_JOBS,
        "TALLY": keys.TALLY,
        "RQ_LIST": keys.RQ_LIST,
        "RQ_INTERMEDIATE": keys.RQ_INTERMEDIATE,
        "RQ_JOB": keys.RQ_JOB,
    }
    constants = [f"local {name} = '{key}'" for name, key in names.items()]
    numbers = {
        "WINDOW": WINDOW,
        "EVENTS_KEPT": keys.EVENTS_KEPT,
        "EVENTS_TTL": keys.EVENTS_TTL_SECONDS,
        "IDEMPOTENCY_TTL": keys.IDEMPOTENCY_TTL_SECONDS,
    }
    constants += [f"local {name} = {number}" for name, number in numbers.items()]
    folder = files(__name__)
    parts = [(folder / f"{part}.lua").read_text() for part in ("observe", "prelude", name)]
    return "\n".join([*constants, *parts])
