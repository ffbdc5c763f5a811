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
panoramas:events:{id}   stream      what listeners of a job are told; short, gone soon after the job's end
panoramas:preview:{id}  string      latest picture of an unfinished canvas, base64; `:{step}` behind it, one step's
panoramas:index:{owner} sorted set  an owner's jobs; `:{state}` behind it, those in a state; score: sequence
panoramas:idempotency:{digest}      id of the job that an owner's Idempotency-Key made
panoramas:batch:{id}    hash        a batch: its owner, when it came, how many items were good and how many not
panoramas:batch-jobs:{id}           sorted set  a batch's jobs, as an owner's
panoramas:tally         hash        jobs that ever ended, by state
panoramas:metrics       hash        histograms of the workers' figures (see `jobs.metrics`)
panoramas:memory        hash        what each worker's device holds, as told last
panoramas:requests:{owner}          string      requests of an owner in the present minute
panoramas:outbox        sorted set  targets of webhooks; score: when the earliest call of each is due, ms
panoramas:outbox:{target}           sorted set  jobs whose webhook is to be called; score: when, ms
panoramas:webhook-gone:{digest}     set for a while when an owner's endpoint has answered 410
panoramas:webhook-tally hash        calls of webhooks that ever ended, by outcome; those that are to be made
rq:queue:panoramas      list        RQ's own: a short window of job ids (see `jobs.envelope`)
```
Times are milliseconds since the epoch on Redis's clock, so that no two machines' clocks are ever compared.
"""

from __future__ import annotations

import hashlib

from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.queue import Queue

QUEUE = "panoramas"
PREFIX = "panoramas:"

JOB = PREFIX + "job:"
SEQUENCE = PREFIX + "sequence"
WAITING = PREFIX + "waiting"
WAITING_BATCH = PREFIX + "waiting:batch"
FAIRNESS = PREFIX + "fairness"
DISPATCHED = PREFIX + "dispatched"
RUNNING = PREFIX + "running"
FINISHED = PREFIX + "finished"
PACE = PREFIX + "pace"
WORKERS = PREFIX + "workers"
SWEEP = PREFIX + "sweep"
EVENTS = PREFIX + "events:"
PREVIEW = PREFIX + "preview:"
INDEX = PREFIX + "index:"
IDEMPOTENCY = PREFIX + "idempotency:"
BATCH = PREFIX + "batch:"
BATCH_JOBS = PREFIX + "batch-jobs:"
TALLY = PREFIX + "tally"
METRICS = PREFIX + "metrics"
MEMORY = PREFIX + "memory"
REQUESTS = PREFIX + "requests:"
OUTBOX_TARGETS = PREFIX + "outbox"
OUTBOX = PREFIX + "outbox:"
WEBHOOK_GONE = PREFIX + "webhook-gone:"
WEBHOOK_TALLY = PREFIX + "webhook-tally"

RQ_LIST = Queue.redis_queue_namespace_prefix + QUEUE
RQ_INTERMEDIATE = IntermediateQueue.get_intermediate_queue_key(RQ_LIST)
RQ_JOB = Job.redis_job_namespace_prefix


# A worker that has not been heard of for this long counts as gone.
WORKER_SILENCE_MS = 15_000

EVENTS_KEPT = 256  # of a job, about: more than the steps between two looks of a slow listener
EVENTS_TTL_SECONDS = 600  # after its end
IDEMPOTENCY_TTL_SECONDS = 86_400
WEBHOOK_GONE_TTL_SECONDS = 30 * 86_400


def job(job_id: str) -> str:
    """Key of a job's record."""
    return JOB + job_id


def events(job_id: str) -> str:
    """Key of a job's stream of events."""
    return EVENTS + job_id


def preview(job_id: str, step: int | None = None) -> str:
    """Key of a job's latest preview, or of one step's."""
    return f"{PREVIEW}{job_id}" if step is None else f"{PREVIEW}{job_id}:{step}"


def index(owner: str, state: str | None = None) -> str:
    """Key of an owner's jobs, or of those in one state. Owners' names hold no colon."""
    return f"{INDEX}{owner}" if state is None else f"{INDEX}{owner}:{state}"


def idempotency(owner: str, key: str) -> str:
    """Key under which an owner's Idempotency-Key is remembered: a digest, for a client chooses its length and bytes."""
    return IDEMPOTENCY + hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()


def requests(owner: str) -> str:
    """Key of an owner's count of requests."""
    return REQUESTS + owner


def batch(batch_id: str) -> str:
    """Key of a batch."""
    return BATCH + batch_id


def batch_index(batch_id: str, state: str | None = None) -> str:
    """Key of a batch's jobs, or of those in one state."""
    return f"{BATCH_JOBS}{batch_id}" if state is None else f"{BATCH_JOBS}{batch_id}:{state}"
