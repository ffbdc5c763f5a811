"""API keys and their rate limit, checked before any other part of the application sees a request."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping

from redis.exceptions import RedisError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.quota import Quota, QuotaStatus
from service.problems import ProblemError, problem_response

log = logging.getLogger(__name__)

# Need no key: the page (which asks the user for one), the API's documentation, and the health checks.
OPEN_PATHS = frozenset({"/", "/favicon.ico", "/livez", "/readyz", "/openapi.json", "/docs"})
OPEN_FOLDER = "/page/"
# Needs a key but does not count towards its rate limit, so that a busy owner's scrapes do not fail.
UNCOUNTED = "/metrics"

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <key>`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def is_open(path: str) -> bool:
    """Whether a path is answered without a key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


class AccessMiddleware:
    """Stores the name of the key's owner in the request's state. A server without keys has one owner, ''.

    The server knows only digests of keys. Each request's key is compared with all of them, each in constant time, so
    that the response time does not reveal how close a guess was.
    """

    def __init__(self, app: ASGIApp, keys: Mapping[str, str]) -> None:
        self._app = app
        self._owners = dict(keys)  # digest to owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        owner = self._owner(Headers(scope=scope)) if self._owners else ""
        if owner is None:
            await problem_response(_unauthorized())(scope, receive, send)
            return
        scope.setdefault("state", {})["owner"] = owner
        quota: Quota = scope["app"].state.services.quota
        standing = await _count(quota, owner) if quota.limit and scope["path"] != UNCOUNTED else None
        if standing is None:
            await self._app(scope, receive, send)
        elif standing.exceeded:
            await problem_response(_rate_limited(quota, standing))(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send, rate_headers(quota, standing)))

    def _owner(self, headers: Headers) -> str | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        key = bearer or headers.get("x-api-key", "").strip()
        presented = hashlib.sha256(key.encode("latin-1")).hexdigest()
        found = None
        for digest, owner in self._owners.items():
            if hmac.compare_digest(presented, digest):
                found = owner
        return found


async def _count(quota: Quota, owner: str) -> QuotaStatus | None:
    try:
        return await quota.count(owner)
    except (RedisError, TimeoutError) as error:
        # Handlers that need Redis report the outage themselves; the others still answer.
        log.warning("the rate limit is not applied: Redis does not answer: %s", error)
        return None


def rate_headers(quota: Quota, standing: QuotaStatus) -> dict[str, str]:
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers)."""
    return {
        "RateLimit-Policy": f'"requests";q={quota.limit};w={quota.window_seconds}',
        "RateLimit": f'"requests";r={standing.remaining};t={standing.resets_in}',
    }


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers


def _unauthorized() -> ProblemError:
    return ProblemError(
        "unauthorized",
        "Authorization: send `Bearer` and a key that this server knows, or the key alone as X-API-Key.",
        headers={"WWW-Authenticate": 'Bearer realm="panoramas"'},
    )


def _rate_limited(quota: Quota, standing: QuotaStatus) -> ProblemError:
    return ProblemError(
        "rate-limited",
        f"This key may send {quota.limit} requests in {quota.window_seconds} s. Nothing was changed.",
        headers={**rate_headers(quota, standing), "Retry-After": str(standing.resets_in)},
    )
