"""`GET /jobs/{id}/events`: what is sent, to how many clients, and what a client gets that reconnects."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import httpx
import pytest
from PIL import Image

from jobs import keys
from jobs.faults import Fault
from testkit.http import finished, submit
from testkit.sse import ServerSentEvent, events, listen
from testkit.workerless import WorkerlessApi, running_workerless_api

FAULT = Fault("urn:test", "A test's fault", 500, "because")


class EventListener:
    """Follows a job in a thread of its own; `next` returns the received events in order."""

    def __init__(self, url: str, job_id: str) -> None:
        self._received: Queue[ServerSentEvent | None] = Queue()
        self._thread = threading.Thread(target=self._listen, args=(url, job_id), daemon=True)
        self._thread.start()

    def next(self, name: str) -> ServerSentEvent:
        while (event := self._received.get(timeout=20)) is not None:
            if event.name == name:
                return event
        raise AssertionError("the stream has ended")

    def ended(self) -> bool:
        while self._received.get(timeout=20) is not None:
            pass
        return True

    def _listen(self, url: str, job_id: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as http, http.stream("GET", f"/jobs/{job_id}/events") as response:
            for event in events(response):
                self._received.put(event)
        self._received.put(None)


@contextmanager
def listener(workerless: WorkerlessApi, job_id: str) -> Iterator[EventListener]:
    yield EventListener(workerless.stack.url, job_id)


def test_a_client_gets_every_event_from_submit_to_end(workerless: WorkerlessApi) -> None:
    job = workerless.submit()
    with listener(workerless, job["id"]) as following:
        assert following.next("job").data == job, "the first event is the present job"
        record = workerless.claim(job["id"])
        assert following.next("job").data["state"] == "running"
        workerless.step(record, 3)
        progress = following.next("progress").data
        assert progress.pop("eta_seconds") is None
        assert progress == {"step": 3, "total_steps": 5, "fraction": 0.6, "phase": "denoising", "queue_position": None}
        workerless.claims.release(record.id, record.token, fault=FAULT, give_back=True)
        assert following.next("job").data["state"] == "queued"
        record = workerless.claim(job["id"])
        assert following.next("job").data["state"] == "running"
        ended = workerless.succeed(record)
        assert following.next("job").data == ended, "the event holds the job exactly as GET returns it"
        assert following.ended()


def test_a_lost_worker_and_a_cancel_are_reported(workerless: WorkerlessApi) -> None:
    job = workerless.submit()
    with listener(workerless, job["id"]) as following:
        following.next("job")
        workerless.claim(job["id"])
        assert following.next("job").data["state"] == "running"
        workerless.redis.zadd(keys.RUNNING, {job["id"]: 1})
        workerless.claims.reconcile()
        assert following.next("job").data["state"] == "queued"
        workerless.http.post(f"/jobs/{job['id']}/cancel")
        assert following.next("job").data["state"] == "canceled"
        assert following.ended()


def test_a_queued_job_reports_its_position_as_the_queue_moves(workerless: WorkerlessApi) -> None:
    first, second = workerless.submit(), workerless.submit()
    with listener(workerless, second["id"]) as following:
        before = following.next("job").data["queue_position"]
        workerless.http.post(f"/jobs/{first['id']}/cancel")
        while (position := following.next("progress")).data["queue_position"] == before:
            pass
        # Jobs that other tests left behind may leave the queue as well.
        assert position.data["queue_position"] < before
        assert position.id is None, "an old position is not worth a replay"
        workerless.http.post(f"/jobs/{second['id']}/cancel")


def test_a_job_that_has_ended_is_sent_once(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    received = listen(workerless.http, job["id"])
    assert [event.data for event in received] == [job]
    again = workerless.http.get(f"/jobs/{job['id']}/events", headers={"last-event-id": received[0].id or ""})
    assert again.status_code == 204, "204 stops a browser from reconnecting"


def test_a_client_that_reconnects_gets_what_it_missed_and_nothing_twice(workerless: WorkerlessApi) -> None:
    record = workerless.claim(workerless.submit()["id"])
    workerless.step(record, 1)
    with workerless.http.stream("GET", f"/jobs/{record.id}/events") as response:
        first = next(events(response))
    for step in (2, 3):
        workerless.step(record, step)
    with workerless.http.stream(
        "GET", f"/jobs/{record.id}/events", headers={"last-event-id": first.id or ""}
    ) as response:
        stream = events(response)
        assert next(stream).name == "job"
        assert [next(stream).data["step"] for _ in range(2)] == [2, 3]
        workerless.step(record, 4)
        last = next(stream)
        assert last.data["step"] == 4
    workerless.step(record, 5)
    workerless.succeed(record)
    received = listen(workerless.http, record.id, last.id)
    assert [event.data.get("step", event.data.get("state")) for event in received] == [5, "succeeded"]


@pytest.mark.slow
def test_a_stream_goes_on_after_the_api_was_restarted(tmp_path: Path) -> None:
    with running_workerless_api(tmp_path) as before:
        stack = before.stack
        record = before.claim(before.submit()["id"])
        with before.http.stream("GET", f"/jobs/{record.id}/events") as response:
            last = next(events(response)).id
            stack.processes[-1].kill()
            stack.processes[-1].wait()
        before.step(record, 1)
        stack.start_api()
        with WorkerlessApi(stack) as after:
            after.step(record, 2)
            after.succeed(record)
            received = listen(after.http, record.id, last)
    assert [event.data.get("step", event.data.get("state")) for event in received] == [1, 2, "succeeded"]


def test_many_clients_share_one_connection_to_redis(workerless: WorkerlessApi) -> None:
    record = workerless.claim(workerless.submit()["id"])
    listeners = [EventListener(workerless.stack.url, record.id) for _ in range(20)]
    for following in listeners:
        following.next("job")
    reading = [client for client in workerless.redis.client_list() if client["cmd"] == "xread"]
    workerless.succeed(record)
    assert {following.next("job").data["state"] for following in listeners} == {"succeeded"}
    assert len(reading) <= 1


def test_a_malformed_last_event_id_is_refused(workerless: WorkerlessApi) -> None:
    response = workerless.http.get(f"/jobs/{workerless.done()['id']}/events", headers={"last-event-id": "yesterday"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "#/Last-Event-ID"


def test_a_preview_is_announced_fetched_and_refused_from_a_superseded_attempt(workerless: WorkerlessApi) -> None:
    record = workerless.claim(workerless.submit()["id"])
    path = f"/jobs/{record.id}/preview"
    assert workerless.http.get(path).json()["type"] == "urn:panoramas:problem:no-preview"
    assert workerless.claims.preview(record.id, record.token, 1, b"first") == "ok"
    assert workerless.claims.preview(record.id, record.token, 4, b"\xff later") == "ok"
    assert workerless.claims.preview(record.id, f"2{record.token[1:]}", 5, b"late") == "lost"
    announced = [event for event in _until(workerless, record.id, 2) if event.name == "preview"]
    assert [event.data for event in announced] == [{"step": step, "url": f"{path}?step={step}"} for step in (1, 4)]
    latest, first = workerless.http.get(path), workerless.http.get(announced[0].data["url"])
    assert (latest.content, latest.headers["cache-control"]) == (b"\xff later", "no-store")
    assert first.content == b"first"
    assert "immutable" in first.headers["cache-control"]
    assert workerless.http.get(path, params={"step": 9}).status_code == 404
    workerless.succeed(record)


def test_a_worker_sends_previews_of_the_canvas(http: httpx.Client) -> None:
    job_id = submit(http, width=1024, num_inference_steps=200)["id"]
    with http.stream("GET", f"/jobs/{job_id}/events") as response:
        preview = next(event for event in events(response) if event.name == "preview")
    assert preview.data == {"step": 1, "url": f"/jobs/{job_id}/preview?step=1"}
    answer = http.get(preview.data["url"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert len(answer.content) < 20_000
    assert Image.open(io.BytesIO(answer.content)).size == (128, 17)
    http.post(f"/jobs/{job_id}/cancel")
    assert finished(http, job_id)["state"] == "canceled"


def _until(workerless: WorkerlessApi, job_id: str, previews: int) -> list[ServerSentEvent]:
    """Every event from the first, until `previews` previews have come."""
    received = []
    with workerless.http.stream("GET", f"/jobs/{job_id}/events", headers={"last-event-id": "0-0"}) as response:
        for event in events(response):
            received.append(event)
            if sum(event.name == "preview" for event in received) == previews:
                break
    return received
