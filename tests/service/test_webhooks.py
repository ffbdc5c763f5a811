"""Who asked to be told of a job's end is told, and nobody else ever is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from jobs.record import State
from testkit.processes import eventually, free_port
from testkit.webhook_receiver import INSIDE, OUTSIDE, Receiver
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
SETTINGS = {
    "PANORAMAS_WEBHOOK_SECRET": SECRET,
    "PANORAMAS_WEBHOOK_ALLOW_HTTP": "true",
    "PANORAMAS_WEBHOOK_ALLOW_NETWORKS": f"{OUTSIDE}/32",
    "PANORAMAS_WEBHOOK_TIMEOUT": "1",
    "PANORAMAS_WEBHOOK_ATTEMPTS": "4",
    "PANORAMAS_WEBHOOK_FIRST_RETRY": "0.1",
    "PANORAMAS_WEBHOOK_LONGEST_RETRY": "3",
}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    """An API and one sender of webhooks, which may call the tests' receivers and nothing else on this machine."""
    with running_workerless_api(tmp_path_factory.mktemp("office"), **SETTINGS) as workerless:
        workerless.stack.start_webhooks()
        yield workerless


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def call(workerless: WorkerlessApi, job_id: str) -> dict[str, Any]:
    answer = workerless.http.get(f"/jobs/{job_id}/webhook")
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(workerless: WorkerlessApi, job_id: str, state: str, seconds: float = 20) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = call(workerless, job_id)
        return found if found["state"] == state else None

    return eventually(look, seconds, f"the webhook of {job_id} is {state}")


def test_an_end_is_told_with_the_job_as_it_is_shown_and_signed(office: WorkerlessApi, receiver: Receiver) -> None:
    secret = office.http.get("/webhooks/secret").json()["secret"]
    waiting = office.submit(webhook_url=f"{receiver.url}/failed")
    assert call(office, waiting["id"])["state"] == "waiting"
    done = office.done(webhook_url=f"{receiver.url}/succeeded")
    canceled = office.submit(webhook_url=f"{receiver.url}/canceled")
    office.http.post(f"/jobs/{canceled['id']}/cancel")
    failing = office.claim(waiting["id"])
    fault = {"type": "urn:test", "title": "A test's", "status": 500, "detail": "because"}
    office.claims.finish(failing.id, failing.token, State.FAILED, error=fault)
    for job_id, state in ((done["id"], "succeeded"), (canceled["id"], "canceled"), (waiting["id"], "failed")):
        status = until(office, job_id, "delivered")
        assert (status["attempts"], status["last_status"], status["last_error"]) == (1, 204, None)
        (heard,) = receiver.heard(job_id)
        told = Webhook(secret).verify(heard.body, heard.headers)
        assert told["type"] == f"panorama.{state}" == "panorama." + heard.path.strip("/")
        assert heard.headers["webhook-id"] == status["id"]
        assert told["data"] == office.get(job_id)
        assert told["timestamp"] == told["data"]["finished_at"]
    figures = office.http.get("/metrics").text
    assert 'panoramas_webhook_calls_total{outcome="delivered"}' in figures


def test_a_job_that_calls_nobody_has_no_webhook(office: WorkerlessApi) -> None:
    job = office.submit()
    assert "webhook" not in job["links"]
    assert office.http.get(f"/jobs/{job['id']}/webhook").status_code == 404
    assert office.http.post(f"/jobs/{job['id']}/webhook/redeliver").status_code == 404


def test_a_target_that_was_down_is_told_once_it_is_up(office: WorkerlessApi) -> None:
    port = free_port()
    job = office.done(webhook_url=f"http://{OUTSIDE}:{port}/")
    assert job["state"] == "succeeded"
    missed = eventually(lambda: found if (found := call(office, job["id"]))["last_error"] else None, 20)
    assert (missed["last_status"], missed["last_error"]) == (None, "the connection failed")
    with Receiver(port=port) as receiver:
        status = until(office, job["id"], "delivered")
        assert status["attempts"] > 1
        assert [heard.headers["webhook-id"] for heard in receiver.calls] == [status["id"]]


def test_a_slow_target_holds_up_neither_another_nor_any_job(office: WorkerlessApi) -> None:
    release = threading.Event()

    def hold(path: str) -> tuple[int, dict[str, str]]:
        release.wait(30)
        return 204, {}

    with Receiver(answer=hold) as slow, Receiver() as fast:
        waiting = [office.done(webhook_url=f"{slow.url}/{number}")["id"] for number in range(10)]
        eventually(lambda: slow.calls, 10, "the slow target is called")
        job = office.done(webhook_url=fast.url)
        until(office, job["id"], "delivered")
        assert "delivered" not in {call(office, job_id)["state"] for job_id in waiting}
        eventually(lambda: len(slow.calls) > 4, 10, "calls that were given up make room")
        release.set()
        for job_id in waiting:
            until(office, job_id, "delivered")
        assert max(call(office, job_id)["attempts"] for job_id in waiting) > 1


def test_a_redirect_is_not_followed(office: WorkerlessApi) -> None:
    with Receiver(INSIDE) as inside, Receiver(answer=lambda path: (307, {"Location": f"{inside.url}/x"})) as outside:
        job = office.done(webhook_url=outside.url)
        status = until(office, job["id"], "failed")
        assert (status["attempts"], status["last_status"], status["next_attempt_at"]) == (4, 307, None)
        assert len(outside.calls) == 4
        assert inside.calls == []


def test_a_name_that_leads_inside_is_not_called(office: WorkerlessApi) -> None:
    with Receiver(INSIDE) as inside:
        # What the resolver makes of this is one of this machine's own addresses, and no literal one.
        job = office.done(webhook_url=f"http://{os.uname().nodename}:{inside.port}/")
        status = eventually(lambda: found if (found := call(office, job["id"]))["last_error"] else None, 20)
        assert status["last_status"] is None
        assert status["last_error"] == "the name has no address that may be called"
        assert inside.calls == []


def test_an_address_that_has_gone_is_called_again_only_when_that_is_asked_for(office: WorkerlessApi) -> None:
    answers = {"status": 410}
    with Receiver(answer=lambda path: (answers["status"], {})) as receiver:
        first = office.done(webhook_url=f"{receiver.url}/gone")
        until(office, first["id"], "disabled")
        second = office.done(webhook_url=f"{receiver.url}/gone")
        assert call(office, second["id"])["state"] == "disabled"
        other = office.done(webhook_url=f"{receiver.url}/other")
        until(office, other["id"], "disabled")
        assert receiver.paths() == {"/gone": 1, "/other": 1}
        answers["status"] = 200
        again = office.http.post(f"/jobs/{second['id']}/webhook/redeliver")
        assert again.status_code == 202
        assert until(office, second["id"], "delivered")["attempts"] == 1
        third = office.done(webhook_url=f"{receiver.url}/gone")
        until(office, third["id"], "delivered")


def test_what_was_delivered_can_be_delivered_again_under_its_id(office: WorkerlessApi, receiver: Receiver) -> None:
    job = office.submit(webhook_url=receiver.url)
    early = office.http.post(f"/jobs/{job['id']}/webhook/redeliver")
    assert (early.status_code, early.json()["type"]) == (409, "urn:panoramas:problem:not-ended")
    office.succeed(office.claim(job["id"]))
    until(office, job["id"], "delivered")
    office.http.post(f"/jobs/{job['id']}/webhook/redeliver")
    eventually(lambda: len(receiver.calls) == 2, 10, "it is told again")
    assert len({heard.headers["webhook-id"] for heard in receiver.calls}) == 1
    assert len({heard.body for heard in receiver.calls}) == 1


def test_retry_after_is_respected(office: WorkerlessApi) -> None:
    with Receiver(answer=lambda path: (503, {"Retry-After": "2"})) as busy:
        job = office.done(webhook_url=busy.url)
        status = eventually(lambda: found if (found := call(office, job["id"]))["last_status"] else None, 10)
        pause = datetime.fromisoformat(status["next_attempt_at"]) - datetime.fromisoformat(status["last_attempt_at"])
        assert pause.total_seconds() >= 2
        assert status["last_error"] == "it answered 503"


def test_a_sender_killed_in_the_middle_of_a_call_leaves_it_to_the_next(office: WorkerlessApi) -> None:
    holds = threading.Event()

    def hold(path: str) -> tuple[int, dict[str, str]]:
        holds.wait(30)
        return 204, {}

    with Receiver(answer=hold) as receiver:
        job = office.done(webhook_url=receiver.url)
        eventually(lambda: receiver.calls, 10, "the call is under way")
        sender = office.stack.processes[-1]
        sender.kill()
        sender.wait()
        holds.set()
        assert call(office, job["id"])["state"] == "sending"
        office.stack.start_webhooks()
        assert until(office, job["id"], "delivered")["attempts"] == 2


def test_a_sender_goes_on_when_redis_is_back(office: WorkerlessApi, receiver: Receiver) -> None:
    office.stack.redis.kill()
    office.stack.redis.start()
    job = office.done(webhook_url=receiver.url)
    until(office, job["id"], "delivered")


def test_a_job_that_was_deleted_is_not_told(office: WorkerlessApi) -> None:
    job = office.done(webhook_url=f"http://{OUTSIDE}:{free_port()}/")
    eventually(lambda: call(office, job["id"])["last_error"], 10)
    assert office.http.delete(f"/jobs/{job['id']}").status_code == 204
    assert office.http.get(f"/jobs/{job['id']}/webhook").status_code == 410
    assert office.redis.keys(f"panoramas:outbox:*{job['id']}*") == []


@pytest.mark.parametrize(
    "url",
    [
        "nowhere",
        "ftp://example.com/",
        "https://",
        "https://user:password@example.com/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://localhost/",
        "https://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "https://example.com:0/",
        "https://example..com/",
    ],
)
def test_an_address_that_cannot_be_called_is_refused_at_once(office: WorkerlessApi, url: str) -> None:
    before = office.http.get("/jobs").json()
    refused = office.http.post("/panoramas", json={**PANORAMA, "webhook_url": url})
    assert refused.status_code == 422
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["#/webhook_url"]
    assert office.http.get("/jobs").json() == before


def test_items_of_a_batch_have_webhooks_of_their_own(office: WorkerlessApi, receiver: Receiver) -> None:
    items = [{**PANORAMA, "webhook_url": f"{receiver.url}/{number}"} for number in range(3)]
    refused = office.http.post("/batches", json={"items": [*items, {**PANORAMA, "webhook_url": "https://10.0.0.1/"}]})
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["#/items/3/webhook_url"]
    batch = office.http.post("/batches", json={"items": items}).json()
    office.http.post(f"/batches/{batch['id']}/cancel")
    eventually(lambda: len(receiver.calls) == 3, 10, "each is told")
    assert receiver.paths() == {"/0": 1, "/1": 1, "/2": 1}


def test_without_a_secret_no_webhook_is_accepted(workerless: WorkerlessApi) -> None:
    refused = workerless.http.post("/panoramas", json={**PANORAMA, "webhook_url": "https://example.com/"})
    assert refused.status_code == 422
    assert refused.json()["detail"] == "webhook_url: must be null: this server calls no webhooks"
    assert workerless.http.get("/webhooks/secret").status_code == 404
