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
        "WAITING_BATCH": keys.WAITING_BATCH,
        "FAIRNESS": keys.FAIRNESS,
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
        "WORKERS": keys.WORKERS,
        "OUTBOX": keys.OUTBOX,
        "OUTBOX_TARGETS": keys.OUTBOX_TARGETS,
        "WEBHOOK_GONE": keys.WEBHOOK_GONE,
        "WEBHOOK_TALLY": keys.WEBHOOK_TALLY,
        "RQ_LIST": keys.RQ_LIST,
        "RQ_INTERMEDIATE": keys.RQ_INTERMEDIATE,
        "RQ_JOB": keys.RQ_JOB,
    }
    flags = {"submit": "", "open_batch": "", "look": " flags=no-writes"}
    constants = ["#!lua" + flags.get(name, " flags=allow-oom")]
    constants += [f"local {constant} = '{key}'" for constant, key in names.items()]
    numbers = {
        "WINDOW": WINDOW,
        "WORKER_SILENCE": keys.WORKER_SILENCE_MS,
        "SHARE": SHARE,
        "MEMORY_FOR_SUBMITS": MEMORY_FOR_SUBMITS,
        "EVENTS_KEPT": keys.EVENTS_KEPT,
        "EVENTS_TTL": keys.EVENTS_TTL_SECONDS,
        "IDEMPOTENCY_TTL": keys.IDEMPOTENCY_TTL_SECONDS,
    }
    constants += [f"local {constant} = {number}" for constant, number in numbers.items()]
    folder = files(__name__)
    parts = [(folder / f"{part}.lua").read_text() for part in ("outbox", "observe", "prelude", name)]
    return "\n".join([*constants, *parts])
