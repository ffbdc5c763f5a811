"""An RQ worker that takes ids off RQ's list and leaves the rest of a job's life to `worker.attempt`.

RQ gives the queue's protocol, the registration (`rq info` shows our workers) and the loop. Its job states, registries,
retries and timeouts are not used: the record in `jobs` is the truth.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from types import FrameType

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError, TimeoutError
from rq.exceptions import StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.worker.base import BaseWorker
from rq.worker_registration import clean_worker_registry

from jobs.keys import QUEUE

HEARTBEAT_SECONDS = 10.0


def paint_job() -> None:
    """What RQ's own tools find in a job. Only `panoramas worker` can run it."""
    raise RuntimeError("panoramas are painted by `panoramas worker`, not by a plain RQ worker")


class PanoramaWorker(BaseWorker):
    """One queue, one job at a time.

    Args:
        run: paints the job of an id.
        before_pop: called each time just before a job would be taken; returns False to end the loop. It may wait, for
            instance until a model is loaded: a job is only taken by a worker that can begin it.
    """

    # RQ polls its list for this long at a time, and looks in between whether it should stop.
    dequeue_timeout = 1
    max_connection_wait_time = 2.0
    log_job_description = False

    def __init__(
        self, *, run: Callable[[str], None], before_pop: Callable[[], bool], connection: Redis, name: str
    ) -> None:
        super().__init__([QUEUE], name=name, connection=connection, serializer=JSONSerializer)
        self._run = run
        self._before_pop = before_pop
        self._beaten_at = -HEARTBEAT_SECONDS

    def register_birth(self) -> None:
        """Signs on, and signs off those who could not: RQ does that with the maintenance that is left out here."""
        super().register_birth()
        clean_worker_registry(self.queues[0])

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ's tools read this, and nothing here depends on it: Redis being away keeps no worker from being told to
        stop, and strands no job that was popped just before.

        Once in a while is enough (RQ forgets a worker after eight minutes): RQ's loop asks for it three times between
        two jobs, nine calls for which the model would wait.
        """
        if time.monotonic() - self._beaten_at < HEARTBEAT_SECONDS:
            return
        self._beaten_at = time.monotonic()
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().heartbeat(timeout, pipeline)

    def execute_job(self, job: Job, queue: Queue) -> None:
        self._run(job.id)

    @property
    def should_run_maintenance_tasks(self) -> bool:
        return True

    def run_maintenance_tasks(self) -> None:
        """RQ calls this just before it pops: the one moment at which stopping can strand no job.

        RQ's own maintenance is left out: it would fail, in its registries, jobs that are ours to judge.
        """
        if not self._before_pop():
            raise StopRequested

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Signals belong to `worker.main`."""

    def _install_signal_handlers(self) -> None:
        """Signals belong to `worker.main`: RQ's handlers raise wherever the code happens to be."""

    def subscribe(self) -> None:
        """RQ's remote commands are not used."""

    def unsubscribe(self) -> None:
        """See `subscribe`."""
