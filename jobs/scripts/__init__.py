"""The transitions of a job. Each is one atomic Lua script that uses the functions of `prelude.lua`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

from jobs import keys
from jobs.envelope import WINDOW

# How many interactive jobs are handed out before a waiting batch job gets its turn.
SHARE = 4
# How many jobs are set aside at a time because the worker that took them cannot paint their model. More would leave the
# order of the queue, which decides what is taken next.
MOST_REFUSED = 64
# A clock that is set back by less is not worth a whole lease for everybody.
CLOCK_SLACK_MS = 1000
# The time is written down again after this many milliseconds.
NOTED_MS = 200
# The share of a lease for which the time may go unnoted. Leases are renewed five times per lease, so that a jump of the
# clock by less leaves all of them valid.
LONGEST_GAP = 0.7
# How many jobs of an owner move up when one before them is canceled.
MOST_MOVED = 100
# What a job takes beside what its client sent: states, times, its place in the indices, its result.
RECORD_BYTES = 1500
# The share of Redis's `maxmemory` up to which jobs are accepted; the rest is reserved for accepted jobs.
MEMORY_FOR_SUBMITS = 0.9


# A shared part is a list of definitions, each of which begins with `local` at the beginning of a line.
_DEFINITION = re.compile(r"^(?=local )", re.MULTILINE)
_NAME = re.compile(r"local (?:function )?(\w+)")
_WORD, _COMMENT = re.compile(r"\w+"), re.compile(r"--.*")
_SHARED = ("clock", "outbox", "observe", "prelude", "turns", "abilities", "faults")


def source(name: str) -> str:
    """The Lua source of a transition, ready to register: key names, shared functions, then the script itself.

    A server that is out of memory refuses a submission before its first write. Every other transition may exceed the
    limit slightly: accepted jobs must continue, and only their end frees memory again. Redis checks its memory and its
    disk before it runs a script, so a script is refused completely or not at all.
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
        "OWNER_BYTES": keys.OWNER_BYTES,
        "WORKERS": keys.WORKERS,
        "ABILITIES": keys.ABILITIES,
        "REFUSED": keys.REFUSED,
        "RECONCILER": keys.RECONCILER,
        "CLOCK": keys.CLOCK,
        "OUTBOX": keys.OUTBOX,
        "OUTBOX_TARGETS": keys.OUTBOX_TARGETS,
        "WEBHOOK_GONE": keys.WEBHOOK_GONE,
        "WEBHOOK_TALLY": keys.WEBHOOK_TALLY,
        "RQ_LIST": keys.RQ_LIST,
        "RQ_INTERMEDIATE": keys.RQ_INTERMEDIATE,
        "RQ_JOB": keys.RQ_JOB,
    }
    flags = {"submit": "", "open_batch": "", "snapshot": " flags=no-writes"}
    constants = [f"local {constant} = '{key}'" for constant, key in names.items()]
    numbers = {
        "WINDOW": WINDOW,
        "WORKER_SILENCE": keys.WORKER_SILENCE_MS,
        "CLOCK_SLACK": CLOCK_SLACK_MS,
        "LONGEST_GAP": LONGEST_GAP,
        "NOTED_MS": NOTED_MS,
        "SHARE": SHARE,
        "RECORD_BYTES": RECORD_BYTES,
        "MOST_REFUSED": MOST_REFUSED,
        "MOST_MOVED": MOST_MOVED,
        "MEMORY_FOR_SUBMITS": MEMORY_FOR_SUBMITS,
        "EVENTS_KEPT": keys.EVENTS_KEPT,
        "EVENTS_TTL": keys.EVENTS_TTL_SECONDS,
        "IDEMPOTENCY_TTL": keys.IDEMPOTENCY_TTL_SECONDS,
    }
    constants += [f"local {constant} = {number}" for constant, number in numbers.items()]
    shared = [definition for part in _SHARED for definition in _DEFINITION.split(_read(part))]
    header = "#!lua" + flags.get(name, " flags=allow-oom")
    return "\n".join([header, *_needed([*constants, *shared], _read(name))])


def _needed(definitions: Sequence[str], script: str) -> list[str]:
    """The script, after those of the definitions that it uses. A call makes all of them anew, which for all that there
    are would take longer than most transitions themselves."""
    kept, words = [script], _words(script)
    for definition in reversed(definitions):  # each uses only those before it
        named = _NAME.match(definition)
        if named and named[1] in words:
            kept.append(definition)
            words |= _words(definition)
    return kept[::-1]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(_COMMENT.sub("", text)))


def _read(part: str) -> str:
    return (files(__name__) / f"{part}.lua").read_text()
