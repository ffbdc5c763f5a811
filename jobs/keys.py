"""Every Redis key, named here and nowhere else.

```
panoramas:job:{id}      hash        the record: the truth that users see
panoramas:sequence      string      counter of accepted jobs
panoramas:waiting       sorted set  queued interactive jobs not yet handed to RQ; score: place (see `jobs.board`)
panoramas:waiting:batch sorted set  the same of batch jobs
panoramas:fairness      hash        rounds reached by each priority and its owners; turns since a batch job
panoramas:dispatched    sorted set  queued jobs on RQ's list or popped and not yet claimed; score: hand-over, ms
panoramas:running       sorted set  running jobs; score: end of their lease, ms
panoramas:finished      sorted set  terminal jobs; score: end of their retention, ms
panoramas:pace          hash        moving averages that estimates are made of
panoramas:workers       sorted set  worker processes; score: last sign of life, ms
panoramas:sweep         string      set while a worker looks through the image store, and for a while after
rq:queue:panoramas      list        RQ's own: a short window of job ids (see `jobs.envelope`)
```
Times are milliseconds since the epoch on Redis's clock, so that no two machines' clocks are ever compared.
"""

from __future__ import annotations

from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.queue import Queue

QUEUE = "panoramas"
PREFIX = "panoramas:"

JOB = PREFIX + "job:"
SEQUENCE = PREFIX + "sequence"
WAITING = PREFIX + "waiting"
BATCH = PREFIX + "waiting:batch"
FAIRNESS = PREFIX + "fairness"
DISPATCHED = PREFIX + "dispatched"
RUNNING = PREFIX + "running"
FINISHED = PREFIX + "finished"
PACE = PREFIX + "pace"
WORKERS = PREFIX + "workers"
SWEEP = PREFIX + "sweep"

RQ_LIST = Queue.redis_queue_namespace_prefix + QUEUE
RQ_INTERMEDIATE = IntermediateQueue.get_intermediate_queue_key(RQ_LIST)
RQ_JOB = Job.redis_job_namespace_prefix


# A worker that has not been heard of for this long counts as gone.
WORKER_SILENCE_MS = 15_000


def job(job_id: str) -> str:
    """Key of a job's record."""
    return JOB + job_id
