"""Distributes the jobs' events to all clients of one API process.

One task reads the event streams of every followed job in a single XREAD, looks each job up once, and hands the encoded
events to the listeners. A listener costs a queue in memory and no Redis connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from jobs.board import JobBoard, JobView
from jobs.events import Event, EventLog
from jobs.record import State
from service.sse import ServerSentEvent, log_event, queue_position_event

log = logging.getLogger(__name__)

# How long one XREAD blocks, and so how long a newly followed job waits until it is read.
_READ_MS = 200
# A listener with this many unsent events is disconnected; its client reconnects with Last-Event-ID.
_MAX_BACKLOG = 512
# Queue positions change without an event, so they are polled: each job at most this often, and all jobs together at
# most this many a second.
_POSITION_SECONDS = 3.0
_POSITIONS_PER_SECOND = 50


@dataclass(eq=False, slots=True)
class Listener:
    """Events for one client. `None` in the queue says that the listener was too slow and is disconnected."""

    events: asyncio.Queue[ServerSentEvent | None] = field(default_factory=lambda: asyncio.Queue(_MAX_BACKLOG))

    def put(self, event: ServerSentEvent) -> None:
        if self.events.qsize() < _MAX_BACKLOG - 1:
            self.events.put_nowait(event)
        elif not self.events.full():
            self.events.put_nowait(None)


@dataclass(slots=True)
class _FollowedJob:
    cursor: str
    listeners: set[Listener] = field(default_factory=set)
    sent_position: int | None = None  # in the queue


class EventHub:
    """Reads for as long as there are listeners. While Redis is away they wait, and miss nothing."""

    def __init__(self, events: EventLog, board: JobBoard) -> None:
        self.events = events
        self._board = board
        self._followed: dict[str, _FollowedJob] = {}
        self._has_listeners = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._next_positions_at = 0.0

    @property
    def listener_count(self) -> int:
        """Clients of this process that follow a job or wait for one."""
        return sum(len(job.listeners) for job in self._followed.values())

    def start(self) -> None:
        self._task = asyncio.create_task(self._read_forever(), name="events")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @contextmanager
    def listen(self, job_id: str, cursor: str) -> Iterator[Listener]:
        """Events of a job after `cursor`. Some from before it may arrive as well."""
        listener = Listener()
        job = self._followed.setdefault(job_id, _FollowedJob(cursor))
        job.listeners.add(listener)
        self._has_listeners.set()
        try:
            yield listener
        finally:
            job.listeners.discard(listener)
            if not job.listeners and self._followed.get(job_id) is job:
                del self._followed[job_id]
            if not self._followed:
                self._has_listeners.clear()

    async def wait(self, view: JobView, seconds: float) -> JobView:
        """The job once it has ended, or as it is after `seconds`."""
        job_id = view.record.id
        if view.record.state.terminal or seconds <= 0:
            return view
        cursor = await self.events.last_id(job_id)
        with self.listen(job_id, cursor) as listener:
            latest = await self._board.get(job_id) or view
            try:
                async with asyncio.timeout(seconds):
                    while not latest.record.state.terminal:
                        event = await listener.events.get()
                        if event is None or event.last:
                            break
            except TimeoutError:
                pass
        return await self._board.get(job_id) or view

    async def _read_forever(self) -> None:
        while True:
            await self._has_listeners.wait()
            try:
                cursors = {job_id: job.cursor for job_id, job in self._followed.items()}
                self._distribute(await self._encode(await self.events.read(cursors, _READ_MS)))
                await self._send_positions()
            except (RedisError, TimeoutError) as error:
                log.warning("events: Redis does not answer: %s", error)
                await asyncio.sleep(1.0)
            except Exception:
                log.exception("events: a read failed")  # go on: without this task no listener gets any event
                await asyncio.sleep(1.0)

    async def _encode(self, events: list[Event]) -> list[tuple[Event, ServerSentEvent]]:
        """Encode events for the wire, looking up each job once."""
        views = {job_id: await self._board.get(job_id) for job_id in {event.job_id for event in events}}
        encoded = []
        for event in events:
            view = views[event.job_id]
            if view and (wire_event := log_event(event, view)):
                encoded.append((event, wire_event))
        for event in events:  # cursors move last: if Redis fails before, the same events are read again
            if job := self._followed.get(event.job_id):
                job.cursor = event.id
        return encoded

    def _distribute(self, encoded: list[tuple[Event, ServerSentEvent]]) -> None:
        for event, wire_event in encoded:
            if job := self._followed.get(event.job_id):
                for listener in job.listeners:
                    listener.put(wire_event)

    async def _send_positions(self) -> None:
        """Send queued jobs' listeners their new position in the queue."""
        now = time.monotonic()
        if now < self._next_positions_at:
            return
        job_ids = list(self._followed)
        self._next_positions_at = now + max(_POSITION_SECONDS, len(job_ids) / _POSITIONS_PER_SECOND)
        for job_id in job_ids:
            view = await self._board.get(job_id)
            job = self._followed.get(job_id)
            if view is None or job is None or view.record.state != State.QUEUED:
                continue
            if job.sent_position != view.queue_position:
                job.sent_position = view.queue_position
                for listener in job.listeners:
                    listener.put(queue_position_event(view))
