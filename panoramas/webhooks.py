"""Verify the calls of webhooks, as Standard Webhooks describes them (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from panoramas.errors import InvalidArgumentError, WebhookVerificationError
from panoramas.results import Job

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A call that was verified.

    Attributes:
        id: `webhook-id`; the same when the call is repeated. Remember those that you have handled.
        type: `panorama.succeeded`, `panorama.failed`, `panorama.canceled`, or a type that a newer server added.
        timestamp: when it happened, in UTC.
        job: the job at its end.
    """

    id: str
    type: str
    timestamp: datetime
    job: Job
    raw: Mapping[str, Any] = field(repr=False)


def verify(
    headers: Mapping[str, str],
    body: bytes | str,
    secret: str,
    *,
    tolerance: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> WebhookEvent:
    """Check that a call was signed with `secret`, and read it.

    Args:
        headers: of the request, in any case.
        body: as it was received, not parsed and written again.
        secret: of `Client.webhook_secret()`; several, separated by spaces, while it is replaced.
        tolerance: by how many seconds the call's time may differ from now, so that an old call cannot be repeated.
        now: seconds since 1970; None: this machine's clock.

    Raises:
        WebhookVerificationError: it is not genuine; answer with 401 or 400.
        InvalidArgumentError: `secret` is not one of Standard Webhooks.
    """
    keys = [_key(text) for text in secret.split()]
    if not keys:
        raise InvalidArgumentError("secret: is empty")
    named = {name.lower(): value for name, value in headers.items()}
    if missing := [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not named.get(name)]:
        raise WebhookVerificationError(f"the call has no header {missing[0]}")
    content = body.encode() if isinstance(body, str) else bytes(body)
    sent_at = _seconds(named["webhook-timestamp"])
    if abs((time.time() if now is None else now) - sent_at) > tolerance:
        raise WebhookVerificationError(f"the call's time differs from this machine's by more than {tolerance:g} s")
    signed = f"{named['webhook-id']}.{sent_at}.".encode() + content
    expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in keys]
    given = [text.removeprefix("v1,").encode() for text in named["webhook-signature"].split() if text.startswith("v1,")]
    if not any(hmac.compare_digest(one, other) for one in expected for other in given):
        raise WebhookVerificationError("no signature of the call was made with this secret")
    return _event(named["webhook-id"], content)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise InvalidArgumentError(f"secret: must be {PREFIX} and base64")
    return key


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 15):
        raise WebhookVerificationError("webhook-timestamp is not a number of seconds")
    return int(text)


def _event(message_id: str, content: bytes) -> WebhookEvent:
    try:
        raw = json.loads(content)
        return WebhookEvent(message_id, raw["type"], datetime.fromisoformat(raw["timestamp"]), Job.of(raw["data"]), raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WebhookVerificationError("the call is genuine, but not about a panorama") from error
