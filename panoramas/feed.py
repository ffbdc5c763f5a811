"""A job's server-sent events over as many connections as it takes, without any input or output."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
from httpx_sse import ServerSentEvent

from panoramas.calls import Answer, Patience, Request, path_of
from panoramas.errors import ServiceError
from panoramas.results import Event, Job, Progress

_SILENCE_SECONDS = 45.0  # the server says at least `keep-alive` every 15


class Feed:
    """What is known of a stream: where it was cut, and the job with all that was told.

    Its client opens `request`, gives the answer to `opened`, each event to `take`, and when the stream has ended,
    however that was, waits for `pause` seconds, until `ended`.
    """

    def __init__(self, job: Job | str, last_event_id: str | None, patience: float) -> None:
        self._path = f"{path_of(job)}/events"
        self._patience, self._tries = patience, Patience(patience)
        self._last_id = last_event_id
        self._retry = 1.0
        self._job = job if isinstance(job, Job) else None
        self._heard = False
        self.ended = False

    @property
    def request(self) -> Request:
        """How to go on where the last connection ended."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return Request("GET", self._path, headers, held=_SILENCE_SECONDS)

    def opened(self, response: httpx.Response) -> bool:
        """Whether events will come; else its body has been read and `pause` or `ended` tells how to go on.

        Raises:
            ServiceError: a refusal.
        """
        if response.status_code == 204:
            self.ended = True
        elif response.status_code not in self.request.busy and not response.is_success:
            raise ServiceError.of(response)
        return response.status_code == 200

    def take(self, told: ServerSentEvent) -> Event | None:
        """An event of the stream; None for what is none, such as a keep-alive."""
        if told.retry is not None:
            self._retry = told.retry / 1000
        # The id stays with the decoder until the next one comes; what has none of its own repeats the last.
        fresh_id = told.id if told.id and told.id != self._last_id else None
        self._last_id = told.id or self._last_id
        if not told.data:
            return None
        data = json.loads(told.data)
        self._heard = True
        self._note(told.event, data)
        if self._job is None:  # the stream begins with the job
            return None
        return Event(told.event, data, fresh_id, self._job)

    def pause(self, answer: Answer = None) -> float:
        """Seconds until the next connection.

        Raises:
            ServiceError: when patience is at its end. A connection that told something renews it.
        """
        if self._heard:
            self._heard, self._tries = False, Patience(self._patience)
            return self._retry
        return self._tries.pause(answer or httpx.RemoteProtocolError("the stream of events ended"), self._path)

    def _note(self, name: str, data: dict) -> None:
        if name == "job":
            self._job = Job.of(data)
            self.ended = self._job.ended
        elif name == "progress" and self._job is not None:
            known = {field: data[field] for field in ("queue_position", "eta_seconds") if field in data}
            at = Progress(data["step"], data["total_steps"], data["fraction"], data["phase"])
            self._job = replace(self._job, progress=at, **known)
