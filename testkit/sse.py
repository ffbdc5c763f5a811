"""Parses server-sent events as a browser does (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class ServerSentEvent:
    """One event."""

    name: str
    data: dict[str, Any]
    id: str | None


def events(response: httpx.Response) -> Iterator[ServerSentEvent]:
    """Every event of a stream, until it ends."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if not line:
            if "data" in fields:
                yield ServerSentEvent(fields.get("event", "message"), json.loads(fields["data"]), fields.get("id"))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def listen(http: httpx.Client, job_id: str, last_event_id: str | None = None) -> list[ServerSentEvent]:
    """Every event of a job from now, or after `last_event_id`, until the stream ends."""
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    with http.stream("GET", f"/jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events(response))
