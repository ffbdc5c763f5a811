"""Signs calls by Standard Webhooks. Each owner has a secret of its own, so no owner can forge another's calls."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"


class Signer:
    """`secrets` are the server's own, the current one first. While one is replaced, both sign each call."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets

    def secret(self, owner: str) -> str:
        """The secret that an owner verifies calls with; the owner of a server without API keys is ''."""
        return _derived(self._secrets[0], owner)

    def headers(self, owner: str, message_id: str, at: datetime, body: str) -> dict[str, str]:
        """The headers `webhook-id`, `webhook-timestamp` and `webhook-signature`; `at` is in UTC."""
        signed = [Webhook(_derived(secret, owner)).sign(message_id, at, body) for secret in self._secrets]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signed),
        }


def _derived(secret: str, owner: str) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return PREFIX + base64.b64encode(hmac.new(key, f"owner:{owner}".encode(), hashlib.sha256).digest()).decode()
