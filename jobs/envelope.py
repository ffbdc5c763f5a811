"""What RQ carries: the id of a job, in a job of RQ's own that any RQ tool can read.

Only the first few queued jobs lie on RQ's list at a time; the rest wait in `panoramas:waiting` and follow as workers
take from it. So the order of the queue stays ours to decide, finding what is queued but on no list costs the same for
ten jobs and for a hundred thousand, and RQ's copy of a job exists for the few on its list.
"""

from __future__ import annotations

import functools
import json

from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.keys import QUEUE

# What is on the list goes first whatever comes after it, so the list is short: the job that is about to be taken, and
# one more, so that a worker that stalls between pop and claim keeps nobody waiting. A claim refills the list.
WINDOW = 2

ENTRY_POINT = "worker.rq_worker.paint_job"


@functools.cache
def envelope() -> str:
    """RQ's job hash as a JSON list [field, value, field, value, ...]; the job's id is in its key alone."""
    job = Job.create(ENTRY_POINT, origin=QUEUE, connection=_NO_CONNECTION, serializer=JSONSerializer, status="queued")
    fields = job.to_dict()
    fields["data"] = job.data.decode()  # RQ reads plain data too, and text passes through JSON
    fields["description"] = ENTRY_POINT
    for moment in ("created_at", "enqueued_at"):
        fields.pop(moment, None)
    return json.dumps([str(item) for pair in fields.items() for item in pair])


class _NoConnection:
    """RQ wants a connection to build a job that is never saved through it."""


_NO_CONNECTION = _NoConnection()
