"""An RQ worker that takes job ids off RQ's list and hands them to `worker.attempt`.

RQ provides the queue's protocol, the registration (`rq info` shows our workers) and the loop. Its job states,
registries, retries and timeouts are not used: the record in `jobs` is the source of truth.
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

HEARTBEAT_SECONDS = 60.0


def paint_job() -> None:
    """The function that RQ's own tools see in a job. Only `panoramas worker` can run such a job."""
    raise RuntimeError("panoramas are painted by `panoramas worker`, not by a plain RQ worker")


class PanoramaWorker(BaseWorker):
    """One queue, one job at a time.

    Args:
        run: paints the job with this id.
        before_pop: called each time just before a job is taken; returns False to end the loop. It may wait, for
            instance until a model is loaded, so that only a worker that can start a job takes one.
    """

    # Seconds for which RQ waits for a job at a time; between two waits it checks whether it should stop.
    dequeue_timeout = 20
    max_connection_wait_time = 2.0
    log_job_description = False

    def __init__(
        self, *, run: Callable[[str], None], before_pop: Callable[[], bool], connection: Redis, name: str
    ) -> None:
        super().__init__([QUEUE], name=name, connection=connection, serializer=JSONSerializer)
        self._run = run
        self._before_pop = before_pop
        self._last_heartbeat = -HEARTBEAT_SECONDS
        # The server's id of the connection on which it waits for a job. `CLIENT UNBLOCK` ends that wait.
        self.waiting_client: int | None = None

    def register_birth(self) -> None:
        """Register this worker, and unregister killed ones, which RQ does in the maintenance that is left out here."""
        super().register_birth()
        clean_worker_registry(self.queues[0])

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Write RQ's heartbeat. Only RQ's tools read it, so an outage of Redis is ignored here: it must neither delay a
        shutdown nor strand a job that was popped just before.

        RQ's loop calls this three times between two jobs, nine calls to Redis for which the model would wait. One in
        a minute is enough: RQ forgets a worker after eight minutes.
        """
        if time.monotonic() - self._last_heartbeat < HEARTBEAT_SECONDS:
            return
        self._last_heartbeat = time.monotonic()
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().heartbeat(timeout, pipeline)

    def execute_job(self, job: Job, queue: Queue) -> None:
        self._run(job.id)

    @property
    def should_run_maintenance_tasks(self) -> bool:
        return True

    def run_maintenance_tasks(self) -> None:
        """RQ calls this just before it pops a job, the only moment at which stopping strands no job.

        RQ's own maintenance is left out: it would mark jobs as failed that our records say are running.
        """
        if not self._before_pop():
            raise StopRequested
        self.waiting_client = self.connection.client_id()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """`worker.shutdown` handles signals."""

    def _install_signal_handlers(self) -> None:
        """`worker.shutdown` handles signals: RQ's handlers raise wherever the code happens to be."""

    def subscribe(self) -> None:
        """RQ's remote commands are not used."""

    def unsubscribe(self) -> None:
        """RQ's remote commands are not used."""
