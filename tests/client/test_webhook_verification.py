"""`panoramas.webhooks.verify` accepts what the service and Standard Webhooks sign, and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPMessage
from typing import Any

import pytest
from standardwebhooks import Webhook as Standard

import panoramas
from panoramas import AsyncClient, Client, ConflictError, InvalidArgumentError, WebhookVerificationError
from panoramas.webhooks import verify
from service.openapi_examples import JOB
from testkit.processes import ROOT, eventually
from testkit.webhook_receiver import OUTSIDE, Receiver
from testkit.workerless import WorkerlessApi, running_workerless_api

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
OTHER = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="
BODY = json.dumps({"type": "panorama.succeeded", "timestamp": "2026-03-02T09:15:41.922Z", "data": JOB}).encode()
AT = 1772442942
SETTINGS = {
    "PANORAMAS_WEBHOOK_SECRET": SECRET,
    "PANORAMAS_WEBHOOK_ALLOW_HTTP": "true",
    "PANORAMAS_WEBHOOK_ALLOW_NETWORKS": f"{OUTSIDE}/32",
}


@pytest.fixture(scope="module")
def webhook_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerlessApi]:
    with running_workerless_api(tmp_path_factory.mktemp("webhook_api"), **SETTINGS) as workerless:
        workerless.stack.start_webhooks()
        yield workerless


def signed(body: bytes = BODY, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """The headers of a call as the library of Standard Webhooks signs it."""
    moment = datetime.fromtimestamp(int(at or time.time()), UTC)
    signature = Standard(secret).sign("msg_1", moment, body.decode())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
    }


def test_a_call_of_the_service_is_verified_asked_for_again_and_read(webhook_api: WorkerlessApi) -> None:
    with Receiver() as receiver, Client(webhook_api.stack.url) as client:
        job = client.submit("hills", webhook_url=f"{receiver.url}/called")
        assert client.webhook(job).state == "waiting"
        with pytest.raises(ConflictError):
            client.redeliver_webhook(job)
        client.cancel(job)
        eventually(lambda: client.webhook(job).state == "delivered", 20, "it is called")
        delivered = client.webhook(job)
        assert (delivered.attempts, delivered.last_status, delivered.last_error) == (1, 204, None)
        assert delivered.last_attempt_at
        assert client.redeliver_webhook(job).id == delivered.id
        eventually(lambda: len(receiver.calls) == 2, 20, "it is called again")
        secret = client.webhook_secret()
        events = [verify(call.headers, call.body, secret) for call in receiver.calls]
        assert {event.id for event in events} == {delivered.id}
        assert (events[0].type, events[0].job) == ("panorama.canceled", client.get(job))

    async def ask() -> tuple[str, str]:
        async with AsyncClient(webhook_api.stack.url) as client:
            return (await client.webhook(job)).url, await client.webhook_secret()

    assert asyncio.run(ask()) == (f"{receiver.url}/called", secret)


def test_headers_may_be_of_any_case_and_body_text_or_bytes() -> None:
    headers = signed()
    message = HTTPMessage()
    for name, value in headers.items():
        message[name.title()] = value
    for given in (headers, {name.upper(): value for name, value in headers.items()}, message):
        for body in (BODY, BODY.decode(), bytearray(BODY)):
            event = panoramas.webhooks.verify(given, body, SECRET)  # type: ignore[arg-type]
            assert (event.id, event.type, event.job.id) == ("msg_1", "panorama.succeeded", JOB["id"])
            assert event.timestamp == datetime(2026, 3, 2, 9, 15, 41, 922000, UTC)


def test_while_a_secret_is_replaced_either_may_have_signed() -> None:
    both = signed()
    both["webhook-signature"] = (
        "v1a,AAAA " + signed(secret=OTHER)["webhook-signature"] + " " + both["webhook-signature"]
    )
    assert verify(both, BODY, SECRET)
    assert verify(both, BODY, OTHER)
    assert verify(signed(secret=OTHER), BODY, f"{SECRET} {OTHER}")
    assert verify(signed(), BODY, SECRET.removeprefix("whsec_"))


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, BODY + b" "),
        ({}, b""),
        ({"webhook-id": "msg_2"}, BODY),
        ({"webhook-id": ""}, BODY),
        ({"webhook-id": None}, BODY),
        ({"webhook-signature": None}, BODY),
        ({"webhook-signature": "v1,"}, BODY),
        ({"webhook-signature": "v1"}, BODY),
        ({"webhook-signature": "v1,ü"}, BODY),
        ({"webhook-signature": signed(secret=OTHER, at=AT)["webhook-signature"]}, BODY),
        ({"webhook-signature": signed(at=AT)["webhook-signature"].replace("v1,", "v2,")}, BODY),
        ({"webhook-timestamp": None}, BODY),
        ({"webhook-timestamp": "now"}, BODY),
        ({"webhook-timestamp": "-1"}, BODY),
        ({"webhook-timestamp": "²"}, BODY),
        ({"webhook-timestamp": "9" * 5000}, BODY),
        ({"webhook-timestamp": str(AT + 1)}, BODY),
    ],
)
def test_a_call_that_was_changed_is_refused(changes: dict[str, Any], body: bytes) -> None:
    headers = {name: value for name, value in {**signed(at=AT), **changes}.items() if value is not None}
    with pytest.raises(WebhookVerificationError):
        verify(headers, body, SECRET, now=AT)


def test_a_call_that_is_too_old_or_from_the_future_is_refused() -> None:
    now = time.time()
    for at in (now - 310, now + 310):
        with pytest.raises(WebhookVerificationError, match="time differs"):
            verify(signed(at=at), BODY, SECRET)
        assert verify(signed(at=at), BODY, SECRET, tolerance=400)
        assert verify(signed(at=at), BODY, SECRET, now=at)


@pytest.mark.parametrize("secret", ["", " ", "whsec_", "whsec_ü", "whsec_a", "no base64!"])
def test_a_secret_that_is_none_is_told_and_not_taken_for_an_empty_key(secret: str) -> None:
    with pytest.raises(InvalidArgumentError, match="secret"):
        verify(signed(), BODY, secret)


def test_a_genuine_call_about_something_else_is_refused_in_order() -> None:
    for body in (b"{}", b"[]", b"no json", b'{"type": "a", "timestamp": "b", "data": {}}'):
        with pytest.raises(WebhookVerificationError, match="not about a panorama"):
            verify(signed(body), body, SECRET)


def test_the_receiver_in_the_documents_verifies() -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "webhooks.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(code, "docs/webhooks.md", "exec"), names)
    assert names["receive"](BODY, signed(), SECRET) == 204
    assert names["receive"](BODY + b" ", signed(), SECRET) == 401
