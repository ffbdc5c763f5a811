"""Who may ask, and how often: API keys and their rate limit, before anything else sees a request."""

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

# What needs no key: the page, which asks for one, the API's description, and what an orchestrator asks.
OPEN_PATHS = frozenset({"/", "/favicon.ico", "/livez", "/readyz", "/openapi.json", "/docs"})
OPEN_FOLDER = "/page/"
# Needs a key and is not counted: a scrape must not fail because its owner is busy.
UNCOUNTED = "/metrics"

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <key>`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def is_open(path: str) -> bool:
    """Whether a path is answered without a key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


class Access:
    """ASGI middleware. It leaves the owner's name in the request's state; without keys there is one owner, ''.

    Only digests of keys are known here. A key is compared with all of them, each in constant time, so that how long
    it takes says nothing of which one was nearly right.
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
            await problem_response(_too_many(quota, standing))(scope, receive, send)
        else:
            await self._app(scope, receive, _telling(send, rate_headers(quota, standing)))

    def _owner(self, headers: Headers) -> str | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
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
        log.warning("requests are not counted: %s", error)  # what needs Redis says so itself
        return None


def rate_headers(quota: Quota, standing: QuotaStatus) -> dict[str, str]:
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers)."""
    return {
        "RateLimit-Policy": f'"requests";q={quota.limit};w={quota.window_seconds}',
        "RateLimit": f'"requests";r={standing.remaining};t={standing.resets_in}',
    }


def _telling(send: Send, headers: Mapping[str, str]) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return told


def _unauthorized() -> ProblemError:
    return ProblemError(
        401,
        "unauthorized",
        "An API key is needed",
        "Authorization: send `Bearer` and a key that this server knows, or the key alone as X-API-Key.",
        headers={"WWW-Authenticate": 'Bearer realm="panoramas"'},
    )


def _too_many(quota: Quota, standing: QuotaStatus) -> ProblemError:
    return ProblemError(
        429,
        "rate-limited",
        "Too many requests",
        f"This key may send {quota.limit} requests in {quota.window_seconds} s. Nothing was changed.",
        headers={**rate_headers(quota, standing), "Retry-After": str(standing.resets_in)},
    )
