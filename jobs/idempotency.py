"""The Idempotency-Key of a request (draft-ietf-httpapi-idempotency-key-header): a repeated POST creates nothing new.

The script that creates the job also writes the key. So neither ever exists without the other, and there is no state in
which a request is "still in flight".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from jobs import keys


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key, and a digest of the request that it was sent with."""

    key: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, request: Any) -> Idempotency:
        """`request` is the request as plain JSON values, before defaults such as a random seed are filled in."""
        text = json.dumps(request, sort_keys=True, separators=(",", ":"))
        return cls(key, hashlib.sha256(text.encode()).hexdigest())

    def redis_key(self, owner: str) -> str:
        return keys.idempotency(owner, self.key)


class KeyReused(Exception):
    """The same owner used this Idempotency-Key for a different request; nothing was accepted."""
