"""The names of all Redis keys; no other module spells one out.

```
panoramas:job:{id}      hash        the job's record, the source of truth
panoramas:sequence      string      counter of accepted jobs
panoramas:waiting       sorted set  queued interactive jobs not yet handed to RQ; score: position (see `jobs.board`)
panoramas:waiting:batch sorted set  the same for batch jobs
panoramas:fairness      hash        rounds reached by each priority and owner; interactive jobs since the last batch job
panoramas:dispatched    sorted set  queued jobs on RQ's list, or popped and not yet claimed; score: when added, ms
panoramas:running       sorted set  running jobs; score: end of their lease, ms
panoramas:finished      sorted set  terminal jobs; score: end of their retention, ms
panoramas:pace          hash        moving averages for estimates
panoramas:workers       sorted set  worker processes; score: last heartbeat, ms
panoramas:abilities     hash        worker processes; value: what each can paint (see `jobs.abilities`)
panoramas:refused       sorted set  dispatched jobs that a worker could not paint; score: when it said so first, ms
panoramas:store         string      id of the image store that the API uses (see `jobs.store_identity`)
panoramas:sweep         string      present while no worker may look for orphaned images
panoramas:reconciler    string      the process whose turn it is to put back jobs of dead workers
panoramas:sweeper       string      the worker whose turn it is to delete expired jobs
panoramas:clock         hash        the time when it was last noted, and when it last jumped, ms
panoramas:events:{id}   stream      events of a job; short, deleted soon after the job's end
panoramas:preview:{id}:{step}       string      preview of a canvas after a step, base64
panoramas:preview:{id}:latest       string      the latest of these steps
panoramas:index:{owner} sorted set  an owner's jobs; with `:{state}` appended, those in a state; score: sequence
panoramas:idempotency:{digest}      id of the job that was created under an owner's Idempotency-Key
panoramas:batch:{id}    hash        a batch: its owner, when it was created, how many items were valid and how many not
panoramas:batch-jobs:{id}           sorted set  a batch's jobs, with `:{state}` as above
panoramas:owner-bytes   hash        bytes kept for each owner's jobs that have not expired
panoramas:tally         hash        total numbers of ended jobs, by state
panoramas:metrics       hash        histograms that the workers add to (see `jobs.metrics`)
panoramas:memory        hash        each worker's GPU memory, as last reported
panoramas:requests:{owner}          string      requests of an owner in the current minute
panoramas:outbox        sorted set  webhook targets (owner and host); score: when the earliest call of each is due, ms
panoramas:outbox:{target}           sorted set  jobs whose webhook is to be called; score: when, ms
panoramas:webhook-gone:{digest}     present for a while after an owner's endpoint has answered 410
panoramas:webhook-tally hash        total numbers of webhook calls by outcome, and how many are pending
rq:queue:panoramas      list        RQ's own: a short window of job ids (see `jobs.envelope`)
```
Times are milliseconds since the epoch on Redis's clock, so that the clocks of two machines are never compared.
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
ABILITIES = PREFIX + "abilities"
REFUSED = PREFIX + "refused"
STORE = PREFIX + "store"
SWEEP = PREFIX + "sweep"
RECONCILER = PREFIX + "reconciler"
SWEEPER = PREFIX + "sweeper"
CLOCK = PREFIX + "clock"
EVENTS = PREFIX + "events:"
PREVIEW = PREFIX + "preview:"
INDEX = PREFIX + "index:"
IDEMPOTENCY = PREFIX + "idempotency:"
BATCH = PREFIX + "batch:"
BATCH_JOBS = PREFIX + "batch-jobs:"
OWNER_BYTES = PREFIX + "owner-bytes"
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


# A worker without a heartbeat for this long counts as dead.
WORKER_SILENCE_MS = 15_000

EVENTS_KEPT = 256  # per job, approximately: more than the steps between two reads of a slow client
EVENTS_TTL_SECONDS = 600  # after the job's end
IDEMPOTENCY_TTL_SECONDS = 86_400
WEBHOOK_GONE_TTL_SECONDS = 30 * 86_400


def job(job_id: str) -> str:
    """Key of a job's record."""
    return JOB + job_id


def events(job_id: str) -> str:
    """Key of a job's event stream."""
    return EVENTS + job_id


def preview(job_id: str, step: int | str) -> str:
    """Key of the preview of one step of a job, or of the step that has the `latest` one."""
    return f"{PREVIEW}{job_id}:{step}"


def index(owner: str, state: str | None = None) -> str:
    """Key of an owner's jobs, or of those in one state. Names of owners never contain a colon."""
    return f"{INDEX}{owner}" if state is None else f"{INDEX}{owner}:{state}"


def idempotency(owner: str, key: str) -> str:
    """Key for an owner's Idempotency-Key. It is a digest, because clients choose the length and bytes of theirs."""
    return IDEMPOTENCY + hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()


def requests(owner: str) -> str:
    """Key of an owner's request counter."""
    return REQUESTS + owner


def batch(batch_id: str) -> str:
    """Key of a batch."""
    return BATCH + batch_id


def batch_index(batch_id: str, state: str | None = None) -> str:
    """Key of a batch's jobs, or of those in one state."""
    return f"{BATCH_JOBS}{batch_id}" if state is None else f"{BATCH_JOBS}{batch_id}:{state}"
