"""The RQ job that carries the id of one of our jobs, in a format that any RQ tool can read.

Only the first few queued jobs are on RQ's list at a time. The rest wait in `panoramas:waiting` and follow as workers
take jobs off the list. So our own scripts decide the order of the queue, finding a job that was lost on its way to a
worker costs the same for ten queued jobs as for a hundred thousand, and only the few jobs on the list exist in RQ.
"""

from __future__ import annotations

import functools
import json

from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.keys import QUEUE

# A job on the list can no longer be overtaken, so the list is short: the job that is taken next, and one more, so that
# a worker that stalls between pop and claim delays no other worker. A claim refills the list.
WINDOW = 2

ENTRY_POINT = "worker.rq_worker.paint_job"


@functools.cache
def envelope() -> str:
    """RQ's job hash as a JSON list [field, value, field, value, ...]. The job's id is only in the hash's key."""
    job = Job.create(ENTRY_POINT, origin=QUEUE, connection=_NO_CONNECTION, serializer=JSONSerializer, status="queued")
    fields = job.to_dict()
    fields["data"] = job.data.decode()  # RQ reads plain data too, and text passes through JSON
    fields["description"] = ENTRY_POINT
    for moment in ("created_at", "enqueued_at"):
        fields.pop(moment, None)
    return json.dumps([str(item) for pair in fields.items() for item in pair])


class _NoConnection:
    """RQ requires a connection to construct a job, although this one is never saved through it."""


_NO_CONNECTION = _NoConnection()
