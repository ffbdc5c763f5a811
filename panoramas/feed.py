"""A job's server-sent events over any number of connections, without input or output."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
from httpx_sse import ServerSentEvent

from panoramas.arguments import check_value, job_path
from panoramas.errors import ServiceError
from panoramas.exchange import Outcome, Patience, Request
from panoramas.results import Event, Job, Progress

_SILENCE_SECONDS = 15.0  # the server sends a comment at least this often


class Feed:
    """The state of a stream: the last event's id, and the job with all events so far applied.

    The client opens `request`, passes the response to `opened` and each event to `take`. When the connection has ended,
    for whatever reason, it waits for `pause` seconds and starts again, until `ended`.
    """

    def __init__(self, job: Job | str, last_event_id: str | None, patience: float) -> None:
        self._path = f"{job_path(job)}/events"
        self._patience, self._tries = patience, Patience(patience)
        self._last_id = last_event_id and check_value("last_event_id", last_event_id)
        self._retry = 1.0
        self._job = job if isinstance(job, Job) else None
        self._received = False
        self.ended = False

    @property
    def request(self) -> Request:
        """The request that continues where the last connection ended."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return Request("GET", self._path, headers, held=_SILENCE_SECONDS)

    def opened(self, response: httpx.Response) -> bool:
        """Whether events follow. If not, look at `ended` and `pause`.

        Raises:
            ServiceError: the service refused the request.
        """
        if response.status_code == 204:
            self.ended = True
        elif response.status_code not in self.request.busy and not response.is_success:
            raise ServiceError.of(response)
        media_type = response.headers.get("Content-Type", "").partition(";")[0]
        if response.status_code == 200 and media_type != "text/event-stream":
            raise ServiceError(f"the server at {response.url} is not a panorama service", status=200)
        return response.status_code == 200

    def take(self, message: ServerSentEvent) -> Event | None:
        """Apply one message; returns the event, or None for a message without data such as a keep-alive."""
        if message.retry is not None:
            self._retry = message.retry / 1000
        # The decoder repeats the last id for a message that has none of its own.
        fresh_id = message.id if message.id and message.id != self._last_id else None
        self._last_id = message.id or self._last_id
        if not message.data:
            return None
        try:
            data = json.loads(message.data)
            self._apply(message.event, data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceError(f"an event of {self._path} cannot be read: it is not a panorama service's") from error
        self._received = True
        if self._job is None:  # the first event is always the job
            return None
        return Event(message.event, data, fresh_id, self._job)

    def pause(self, outcome: Outcome = None) -> float:
        """Seconds until the next connection.

        Raises:
            ServiceError: when `patience` seconds have passed since the last event.
        """
        if self._received:
            self._received, self._tries = False, Patience(self._patience)
            return self._retry
        return self._tries.pause(outcome or httpx.RemoteProtocolError("the stream of events ended"), self._path)

    def _apply(self, name: str, data: dict) -> None:
        if name == "job":
            self._job = Job.of(data)
            self.ended = self._job.ended
        elif name == "progress" and self._job is not None:
            known = {field: data[field] for field in ("queue_position", "eta_seconds") if field in data}
            progress = Progress(data["step"], data["total_steps"], data["fraction"], data["phase"])
            self._job = replace(self._job, progress=progress, **known)
