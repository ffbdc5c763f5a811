"""A job's events: what is told, to how many, and what a listener that was cut off gets to hear."""

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
from jobs.claims import Fault
from testkit.http import finished, submit
from testkit.sse import Told, events, listen
from testkit.workerless import WorkerlessApi, running_workerless_api

FAULT = Fault("urn:test", "A test's fault", 500, "because")


class Hearing:
    """A listener in a thread of its own; `next` gives what it has heard, in order."""

    def __init__(self, url: str, job_id: str) -> None:
        self._heard: Queue[Told | None] = Queue()
        self._thread = threading.Thread(target=self._listen, args=(url, job_id), daemon=True)
        self._thread.start()

    def next(self, name: str) -> Told:
        while (event := self._heard.get(timeout=20)) is not None:
            if event.name == name:
                return event
        raise AssertionError("the stream has ended")

    def ended(self) -> bool:
        while self._heard.get(timeout=20) is not None:
            pass
        return True

    def _listen(self, url: str, job_id: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as http, http.stream("GET", f"/jobs/{job_id}/events") as response:
            for event in events(response):
                self._heard.put(event)
        self._heard.put(None)


@contextmanager
def hearing(workerless: WorkerlessApi, job_id: str) -> Iterator[Hearing]:
    yield Hearing(workerless.stack.url, job_id)


def test_a_listener_hears_a_job_from_its_submit_to_its_end(workerless: WorkerlessApi) -> None:
    job = workerless.submit()
    with hearing(workerless, job["id"]) as heard:
        assert heard.next("job").data == job, "the job as it is, first of all"
        record = workerless.claim(job["id"])
        assert heard.next("job").data["state"] == "running"
        workerless.step(record, 3)
        told = heard.next("progress").data
        assert told.pop("eta_seconds") is None
        assert told == {"step": 3, "total_steps": 5, "fraction": 0.6, "phase": "denoising", "queue_position": None}
        workerless.claims.release(record.id, record.token, fault=FAULT, give_back=True)
        assert heard.next("job").data["state"] == "queued"
        record = workerless.claim(job["id"])
        assert heard.next("job").data["state"] == "running"
        ended = workerless.succeed(record)
        assert heard.next("job").data == ended, "the job exactly as it is fetched"
        assert heard.ended()


def test_a_cancel_and_a_lost_worker_are_told(workerless: WorkerlessApi) -> None:
    job = workerless.submit()
    with hearing(workerless, job["id"]) as heard:
        heard.next("job")
        workerless.claim(job["id"])
        assert heard.next("job").data["state"] == "running"
        workerless.redis.zadd(keys.RUNNING, {job["id"]: 1})
        workerless.claims.reconcile()
        assert heard.next("job").data["state"] == "queued"
        workerless.http.post(f"/jobs/{job['id']}/cancel")
        assert heard.next("job").data["state"] == "canceled"
        assert heard.ended()


def test_a_queued_jobs_place_is_told_as_the_queue_moves(workerless: WorkerlessApi) -> None:
    first, second = workerless.submit(), workerless.submit()
    with hearing(workerless, second["id"]) as heard:
        before = heard.next("job").data["queue_position"]
        workerless.http.post(f"/jobs/{first['id']}/cancel")
        while (place := heard.next("progress")).data["queue_position"] == before:
            pass
        # Jobs that other tests left behind may leave the queue as well.
        assert place.data["queue_position"] < before
        assert place.id is None, "a place is of now: it is never replayed"
        workerless.http.post(f"/jobs/{second['id']}/cancel")


def test_a_job_that_has_ended_is_told_once(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    told = listen(workerless.http, job["id"])
    assert [event.data for event in told] == [job]
    again = workerless.http.get(f"/jobs/{job['id']}/events", headers={"last-event-id": told[0].id or ""})
    assert again.status_code == 204, "a browser that comes back is told to stay away"


def test_a_listener_that_was_cut_off_hears_what_it_missed_and_nothing_twice(workerless: WorkerlessApi) -> None:
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
    told = listen(workerless.http, record.id, last.id)
    assert [event.data.get("step", event.data.get("state")) for event in told] == [5, "succeeded"]


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
            told = listen(after.http, record.id, last)
    assert [event.data.get("step", event.data.get("state")) for event in told] == [1, 2, "succeeded"]


def test_many_listeners_hear_the_same_over_one_connection_to_redis(workerless: WorkerlessApi) -> None:
    record = workerless.claim(workerless.submit()["id"])
    listeners = [Hearing(workerless.stack.url, record.id) for _ in range(20)]
    for heard in listeners:
        heard.next("job")
    reading = [client for client in workerless.redis.client_list() if client["cmd"] == "xread"]
    workerless.succeed(record)
    assert {heard.next("job").data["state"] for heard in listeners} == {"succeeded"}
    assert len(reading) <= 1


def test_a_place_that_is_no_events_id_is_refused(workerless: WorkerlessApi) -> None:
    response = workerless.http.get(f"/jobs/{workerless.done()['id']}/events", headers={"last-event-id": "yesterday"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "#/Last-Event-ID"


def test_a_preview_is_told_fetched_and_refused_from_a_late_attempt(workerless: WorkerlessApi) -> None:
    record = workerless.claim(workerless.submit()["id"])
    path = f"/jobs/{record.id}/preview"
    assert workerless.http.get(path).json()["type"] == "urn:panoramas:problem:no-preview"
    assert workerless.claims.preview(record.id, record.token, 1, b"first") == "ok"
    assert workerless.claims.preview(record.id, record.token, 4, b"\xff later") == "ok"
    assert workerless.claims.preview(record.id, record.token + 1, 5, b"late") == "lost"
    told = [event for event in _until(workerless, record.id, 2) if event.name == "preview"]
    assert [event.data for event in told] == [{"step": step, "url": f"{path}?step={step}"} for step in (1, 4)]
    latest, first = workerless.http.get(path), workerless.http.get(told[0].data["url"])
    assert (latest.content, latest.headers["cache-control"]) == (b"\xff later", "no-store")
    assert first.content == b"first"
    assert "immutable" in first.headers["cache-control"]
    assert workerless.http.get(path, params={"step": 9}).status_code == 404
    workerless.succeed(record)


def test_a_worker_shows_previews_of_the_canvas(http: httpx.Client) -> None:
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


def _until(workerless: WorkerlessApi, job_id: str, previews: int) -> list[Told]:
    told = []
    with workerless.http.stream("GET", f"/jobs/{job_id}/events", headers={"last-event-id": "0-0"}) as response:
        for event in events(response):
            told.append(event)
            if sum(event.name == "preview" for event in told) == previews:
                break
    return told
