"""The Idempotency-Key of a request (draft-ietf-httpapi-idempotency-key-header): a repeated POST makes nothing new.

The key is written by the script that makes the job, so that there is no moment at which one exists without the other,
and no request that is "still in flight".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from jobs import keys


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key, and a digest of what it asked for under that key."""

    key: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, request: Any) -> Idempotency:
        """`request` is what was asked for as plain JSON values, before any default is drawn."""
        text = json.dumps(request, sort_keys=True, separators=(",", ":"))
        return cls(key, hashlib.sha256(text.encode()).hexdigest())

    def redis_key(self, owner: str) -> str:
        return keys.idempotency(owner, self.key)


class KeyReused(Exception):
    """The Idempotency-Key belongs to another request of the same owner; nothing was accepted."""
