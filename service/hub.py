"""One reader of the jobs' events for a whole API process, however many clients listen.

A listener costs a queue in memory and no connection: one task reads the streams of every job that is listened to in
one XREAD, looks each job up once for all its listeners, and hands out the finished frames.
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
from service.frames import Frame, frame_of, place_frame

log = logging.getLogger(__name__)

# Within this many milliseconds the reader sees that a job has been added to those listened to.
_READ_MS = 200
# A listener this far behind is cut off; it comes back with Last-Event-ID.
_BACKLOG = 512
# Places in the queue change without an event: they are looked up at most so often a job, and so many a second in all.
_PLACES_EVERY = 3.0
_PLACES_A_SECOND = 50


@dataclass(eq=False, slots=True)
class Listener:
    """Frames for one client. `None` in the queue says that it was cut off."""

    frames: asyncio.Queue[Frame | None] = field(default_factory=lambda: asyncio.Queue(_BACKLOG))

    def put(self, frame: Frame) -> None:
        if self.frames.qsize() < _BACKLOG - 1:
            self.frames.put_nowait(frame)
        elif not self.frames.full():
            self.frames.put_nowait(None)


@dataclass(slots=True)
class _Watched:
    cursor: str
    listeners: set[Listener] = field(default_factory=set)
    queued_at: int | None = None  # place in the queue that the listeners know


class Hub:
    """Reads for as long as anyone listens. Redis may come and go meanwhile: listeners then wait, and miss nothing."""

    def __init__(self, events: EventLog, board: JobBoard) -> None:
        self.events = events
        self._board = board
        self._watched: dict[str, _Watched] = {}
        self._somebody = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._places_at = 0.0

    @property
    def listeners(self) -> int:
        """Clients that follow a job here, or wait for one."""
        return sum(len(watched.listeners) for watched in self._watched.values())

    def start(self) -> None:
        self._task = asyncio.create_task(self._read_forever(), name="events")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @contextmanager
    def listen(self, job_id: str, cursor: str) -> Iterator[Listener]:
        """Frames of what happens to a job after `cursor`; some from before may come again."""
        listener = Listener()
        watched = self._watched.setdefault(job_id, _Watched(cursor))
        watched.listeners.add(listener)
        self._somebody.set()
        try:
            yield listener
        finally:
            watched.listeners.discard(listener)
            if not watched.listeners and self._watched.get(job_id) is watched:
                del self._watched[job_id]
            if not self._watched:
                self._somebody.clear()

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
                        frame = await listener.frames.get()
                        if frame is None or frame.last:
                            break
            except TimeoutError:
                pass
        return await self._board.get(job_id) or view

    async def _read_forever(self) -> None:
        while True:
            await self._somebody.wait()
            try:
                cursors = {job_id: watched.cursor for job_id, watched in self._watched.items()}
                self._hand_out(await self._frames(await self.events.read(cursors, _READ_MS)))
                await self._tell_places()
            except (RedisError, TimeoutError) as error:
                log.warning("events: Redis does not answer: %s", error)
                await asyncio.sleep(1.0)
            except Exception:
                log.exception("events: a read failed")  # a reader that ends in silence would cost every listener
                await asyncio.sleep(1.0)

    async def _frames(self, events: list[Event]) -> list[tuple[Event, Frame]]:
        """Every event as a frame. A job is looked up once for all that happened to it."""
        views = {job_id: await self._board.get(job_id) for job_id in {event.job_id for event in events}}
        frames = []
        for event in events:
            view = views[event.job_id]
            if view and (frame := frame_of(event, view)):
                frames.append((event, frame))
        for event in events:  # moved on only now, so that a fault of Redis in between loses nothing
            if watched := self._watched.get(event.job_id):
                watched.cursor = event.id
        return frames

    def _hand_out(self, frames: list[tuple[Event, Frame]]) -> None:
        for event, frame in frames:
            if watched := self._watched.get(event.job_id):
                for listener in watched.listeners:
                    listener.put(frame)

    async def _tell_places(self) -> None:
        """Tell the listeners of queued jobs how far the queue has moved."""
        now = time.monotonic()
        if now < self._places_at:
            return
        jobs = list(self._watched)
        self._places_at = now + max(_PLACES_EVERY, len(jobs) / _PLACES_A_SECOND)
        for job_id in jobs:
            view = await self._board.get(job_id)
            watched = self._watched.get(job_id)
            if view is None or watched is None or view.record.state != State.QUEUED:
                continue
            if watched.queued_at != view.queue_position:
                watched.queued_at = view.queue_position
                for listener in watched.listeners:
                    listener.put(place_frame(view))
