"""Signatures of Standard Webhooks, each owner's with a secret of its own: who knows theirs can forge nobody else's."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"


class Signer:
    """`secrets` are the server's, the present one first; while one is being replaced, both sign."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets

    def secret(self, owner: str) -> str:
        """What an owner verifies with. Where there are no API keys it is the server's own."""
        return _derived(self._secrets[0], owner)

    def headers(self, owner: str, message_id: str, at: datetime, body: str) -> dict[str, str]:
        """`webhook-id`, `webhook-timestamp` and `webhook-signature` of one attempt; `at` is in UTC."""
        signed = [Webhook(_derived(secret, owner)).sign(message_id, at, body) for secret in self._secrets]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signed),
        }


def _derived(secret: str, owner: str) -> str:
    if not owner:
        return secret
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return PREFIX + base64.b64encode(hmac.new(key, f"owner:{owner}".encode(), hashlib.sha256).digest()).decode()
