"""Webhook calls at a job's end: delivered, signed, retried, and sent to allowed addresses only."""

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
def webhook_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    """An API and one webhook process, which may call the tests' receivers and nothing else on this machine."""
    with running_workerless_api(tmp_path_factory.mktemp("webhook_api"), **SETTINGS) as workerless:
        workerless.stack.start_webhooks()
        yield workerless


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def delivery(workerless: WorkerlessApi, job_id: str) -> dict[str, Any]:
    answer = workerless.http.get(f"/jobs/{job_id}/webhook")
    assert answer.status_code == 200, answer.text
    return answer.json()


def delivery_in_state(workerless: WorkerlessApi, job_id: str, state: str, seconds: float = 20) -> dict[str, Any]:
    def in_state() -> dict[str, Any] | None:
        found = delivery(workerless, job_id)
        return found if found["state"] == state else None

    return eventually(in_state, seconds, f"the webhook of {job_id} is {state}")


def test_a_call_holds_the_job_as_get_returns_it_and_is_signed(webhook_api: WorkerlessApi, receiver: Receiver) -> None:
    secret = webhook_api.http.get("/webhooks/secret").json()["secret"]
    waiting = webhook_api.submit(webhook_url=f"{receiver.url}/failed")
    assert delivery(webhook_api, waiting["id"])["state"] == "waiting"
    done = webhook_api.done(webhook_url=f"{receiver.url}/succeeded")
    canceled = webhook_api.submit(webhook_url=f"{receiver.url}/canceled")
    webhook_api.http.post(f"/jobs/{canceled['id']}/cancel")
    failing = webhook_api.claim(waiting["id"])
    fault = {"type": "urn:test", "title": "A test's", "status": 500, "detail": "because"}
    webhook_api.claims.finish(failing.id, failing.token, State.FAILED, error=fault)
    for job_id, state in ((done["id"], "succeeded"), (canceled["id"], "canceled"), (waiting["id"], "failed")):
        status = delivery_in_state(webhook_api, job_id, "delivered")
        assert (status["attempts"], status["last_status"], status["last_error"]) == (1, 204, None)
        (request,) = receiver.heard(job_id)
        event = Webhook(secret).verify(request.body, request.headers)
        assert event["type"] == f"panorama.{state}" == "panorama." + request.path.strip("/")
        assert request.headers["webhook-id"] == status["id"]
        assert event["data"] == webhook_api.get(job_id)
        assert event["timestamp"] == event["data"]["finished_at"]
    figures = webhook_api.http.get("/metrics").text
    assert 'panoramas_webhook_calls_total{outcome="delivered"}' in figures


def test_a_job_without_a_webhook_url_has_no_webhook(webhook_api: WorkerlessApi) -> None:
    job = webhook_api.submit()
    assert "webhook" not in job["links"]
    assert webhook_api.http.get(f"/jobs/{job['id']}/webhook").status_code == 404
    assert webhook_api.http.post(f"/jobs/{job['id']}/webhook/redeliver").status_code == 404


def test_a_target_that_was_down_is_told_once_it_is_up(webhook_api: WorkerlessApi) -> None:
    port = free_port()
    job = webhook_api.done(webhook_url=f"http://{OUTSIDE}:{port}/")
    assert job["state"] == "succeeded"
    missed = eventually(lambda: found if (found := delivery(webhook_api, job["id"]))["last_error"] else None, 20)
    assert (missed["last_status"], missed["last_error"]) == (None, "the connection failed")
    with Receiver(port=port) as receiver:
        status = delivery_in_state(webhook_api, job["id"], "delivered")
        assert status["attempts"] > 1
        assert [request.headers["webhook-id"] for request in receiver.calls] == [status["id"]]


def test_a_slow_target_holds_up_neither_another_nor_any_job(webhook_api: WorkerlessApi) -> None:
    may_answer = threading.Event()

    def hold(path: str) -> tuple[int, dict[str, str]]:
        may_answer.wait(30)
        return 204, {}

    with Receiver(answer=hold) as slow, Receiver() as fast:
        waiting = [webhook_api.done(webhook_url=f"{slow.url}/{number}")["id"] for number in range(10)]
        eventually(lambda: slow.calls, 10, "the slow target is called")
        job = webhook_api.done(webhook_url=fast.url)
        delivery_in_state(webhook_api, job["id"], "delivered")
        assert "delivered" not in {delivery(webhook_api, job_id)["state"] for job_id in waiting}
        eventually(lambda: len(slow.calls) > 4, 10, "calls that timed out make room for others")
        may_answer.set()
        for job_id in waiting:
            delivery_in_state(webhook_api, job_id, "delivered")
        assert max(delivery(webhook_api, job_id)["attempts"] for job_id in waiting) > 1


def test_a_redirect_is_not_followed(webhook_api: WorkerlessApi) -> None:
    with Receiver(INSIDE) as inside, Receiver(answer=lambda path: (307, {"Location": f"{inside.url}/x"})) as outside:
        job = webhook_api.done(webhook_url=outside.url)
        status = delivery_in_state(webhook_api, job["id"], "failed")
        assert (status["attempts"], status["last_status"], status["next_attempt_at"]) == (4, 307, None)
        assert len(outside.calls) == 4
        assert inside.calls == []


def test_a_name_that_leads_inside_is_not_called(webhook_api: WorkerlessApi) -> None:
    with Receiver(INSIDE) as inside:
        # The resolver turns this host name into one of this machine's own addresses.
        job = webhook_api.done(webhook_url=f"http://{os.uname().nodename}:{inside.port}/")
        status = eventually(lambda: found if (found := delivery(webhook_api, job["id"]))["last_error"] else None, 20)
        assert status["last_status"] is None
        assert status["last_error"] == "the name has no address that may be called"
        assert inside.calls == []


def test_an_address_that_has_gone_is_called_again_only_when_that_is_asked_for(webhook_api: WorkerlessApi) -> None:
    answers = {"status": 410}
    with Receiver(answer=lambda path: (answers["status"], {})) as receiver:
        first = webhook_api.done(webhook_url=f"{receiver.url}/gone")
        delivery_in_state(webhook_api, first["id"], "disabled")
        second = webhook_api.done(webhook_url=f"{receiver.url}/gone")
        assert delivery(webhook_api, second["id"])["state"] == "disabled"
        other = webhook_api.done(webhook_url=f"{receiver.url}/other")
        delivery_in_state(webhook_api, other["id"], "disabled")
        assert receiver.paths() == {"/gone": 1, "/other": 1}
        answers["status"] = 200
        again = webhook_api.http.post(f"/jobs/{second['id']}/webhook/redeliver")
        assert again.status_code == 202
        assert delivery_in_state(webhook_api, second["id"], "delivered")["attempts"] == 1
        third = webhook_api.done(webhook_url=f"{receiver.url}/gone")
        delivery_in_state(webhook_api, third["id"], "delivered")


def test_a_delivered_call_can_be_repeated_under_the_same_id(webhook_api: WorkerlessApi, receiver: Receiver) -> None:
    job = webhook_api.submit(webhook_url=receiver.url)
    early = webhook_api.http.post(f"/jobs/{job['id']}/webhook/redeliver")
    assert (early.status_code, early.json()["type"]) == (409, "urn:panoramas:problem:not-ended")
    webhook_api.succeed(webhook_api.claim(job["id"]))
    delivery_in_state(webhook_api, job["id"], "delivered")
    webhook_api.http.post(f"/jobs/{job['id']}/webhook/redeliver")
    eventually(lambda: len(receiver.calls) == 2, 10, "it is called again")
    assert len({request.headers["webhook-id"] for request in receiver.calls}) == 1
    assert len({request.body for request in receiver.calls}) == 1


def test_retry_after_is_respected(webhook_api: WorkerlessApi) -> None:
    with Receiver(answer=lambda path: (503, {"Retry-After": "2"})) as busy:
        job = webhook_api.done(webhook_url=busy.url)
        status = eventually(lambda: found if (found := delivery(webhook_api, job["id"]))["last_status"] else None, 10)
        pause = datetime.fromisoformat(status["next_attempt_at"]) - datetime.fromisoformat(status["last_attempt_at"])
        assert pause.total_seconds() >= 2
        assert status["last_error"] == "it answered 503"


def test_a_sender_killed_in_the_middle_of_a_call_leaves_it_to_the_next(webhook_api: WorkerlessApi) -> None:
    may_answer = threading.Event()

    def hold(path: str) -> tuple[int, dict[str, str]]:
        may_answer.wait(30)
        return 204, {}

    with Receiver(answer=hold) as receiver:
        job = webhook_api.done(webhook_url=receiver.url)
        eventually(lambda: receiver.calls, 10, "the call has begun")
        sender = webhook_api.stack.processes[-1]
        sender.kill()
        sender.wait()
        may_answer.set()
        assert delivery(webhook_api, job["id"])["state"] == "sending"
        webhook_api.stack.start_webhooks()
        assert delivery_in_state(webhook_api, job["id"], "delivered")["attempts"] == 2


def test_calls_continue_after_a_restart_of_redis(webhook_api: WorkerlessApi, receiver: Receiver) -> None:
    webhook_api.stack.redis.kill()
    webhook_api.stack.redis.start()
    job = webhook_api.done(webhook_url=receiver.url)
    delivery_in_state(webhook_api, job["id"], "delivered")


def test_a_deleted_job_is_not_reported(webhook_api: WorkerlessApi) -> None:
    job = webhook_api.done(webhook_url=f"http://{OUTSIDE}:{free_port()}/")
    eventually(lambda: delivery(webhook_api, job["id"])["last_error"], 10)
    assert webhook_api.http.delete(f"/jobs/{job['id']}").status_code == 204
    assert webhook_api.http.get(f"/jobs/{job['id']}/webhook").status_code == 410
    assert webhook_api.redis.keys(f"panoramas:outbox:*{job['id']}*") == []


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
def test_an_address_that_cannot_be_called_is_refused_at_submit(webhook_api: WorkerlessApi, url: str) -> None:
    before = webhook_api.http.get("/jobs").json()
    refused = webhook_api.http.post("/panoramas", json={**PANORAMA, "webhook_url": url})
    assert refused.status_code == 422
    assert [problem["pointer"] for problem in refused.json()["errors"]] == ["#/webhook_url"]
    assert webhook_api.http.get("/jobs").json() == before


def test_each_item_of_a_batch_has_its_own_webhook(webhook_api: WorkerlessApi, receiver: Receiver) -> None:
    items = [{**PANORAMA, "webhook_url": f"{receiver.url}/{number}"} for number in range(3)]
    refused = webhook_api.http.post(
        "/batches", json={"items": [*items, {**PANORAMA, "webhook_url": "https://10.0.0.1/"}]}
    )
    assert [problem["pointer"] for problem in refused.json()["errors"]] == ["#/items/3/webhook_url"]
    batch = webhook_api.http.post("/batches", json={"items": items}).json()
    webhook_api.http.post(f"/batches/{batch['id']}/cancel")
    eventually(lambda: len(receiver.calls) == 3, 10, "each webhook is called")
    assert receiver.paths() == {"/0": 1, "/1": 1, "/2": 1}


def test_without_a_secret_webhook_urls_are_refused(workerless: WorkerlessApi) -> None:
    refused = workerless.http.post("/panoramas", json={**PANORAMA, "webhook_url": "https://example.com/"})
    assert refused.status_code == 422
    assert refused.json()["detail"] == "webhook_url: must be null: this server calls no webhooks"
    assert workerless.http.get("/webhooks/secret").status_code == 404
