"""Which hosts this server answers for, and which web pages may make a browser send it requests.

Without API keys, whoever can reach the port may use the service, and on this machine that is every web page in the
user's browser: by DNS rebinding, which the Host header shows, and by cross-site requests, which browsers label.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.problems import ProblemError, problem_response

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "X-API-Key",
    "traceparent",
)
_ANSWER_HEADERS = (
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
)


class OriginMiddleware:
    """Refuses requests for other hosts (421) and unsafe ones from other sites (403), and passes the prefix of
    `public_url`, which some proxies leave in the path.

    Args:
        hosts: names, `*.name` for every name below one, `*` for all. Empty: this machine's own names and addresses.
        origins: web pages of other sites that may call, as `https://host`; `*` for all.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str], origins: Collection[str], public_url: str | None
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)
        public = urlsplit(public_url or "")
        self._public_host = public.netloc.lower()
        self._prefix = public.path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._answers_for(headers.get("host", "")):
            problem = ProblemError(
                "misdirected", "Host: not one of this server's. PANORAMAS_ALLOWED_HOSTS lists them; see the settings."
            )
            await problem_response(problem)(scope, receive, send)
        elif scope["method"] not in _SAFE_METHODS and self._is_foreign(headers):
            problem = ProblemError(
                "cross-site", "A web page of another site sent this. PANORAMAS_CORS_ORIGINS lists those that may."
            )
            await problem_response(problem)(scope, receive, send)
        else:
            if self._prefix and scope["path"].startswith(f"{self._prefix}/"):
                scope["path"] = scope["path"].removeprefix(self._prefix)
                scope["raw_path"] = scope["raw_path"].removeprefix(self._prefix.encode())
            await self._app(scope, receive, send)

    def _answers_for(self, host: str) -> bool:
        """Browsers always send Host; a client that does not send it cannot have been led here by a page."""
        name = _host_name(host)
        if not host or "*" in self._hosts or host.lower() == self._public_host:
            return True
        if not self._hosts:
            return _is_of_this_machine(name)
        below = {f"*{name[position:]}" for position, letter in enumerate(name) if letter == "."}
        return name in self._hosts or not self._hosts.isdisjoint(below)

    def _is_foreign(self, headers: Headers) -> bool:
        """As Go's `http.CrossOriginProtection` decides: browsers say it by Sec-Fetch-Site, older ones by Origin."""
        origin = headers.get("origin")
        if origin is not None and (origin in self._origins or "*" in self._origins):
            return False
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site not in {"same-origin", "none"}
        own = {host.lower() for host in (headers.get("host", ""), self._public_host) if host}
        return origin is not None and origin.partition("://")[2].lower() not in own


def cross_origin(app: ASGIApp, origins: Collection[str]) -> CORSMiddleware:
    """Answers preflights and lets pages of `origins` read the answers. Keys are headers, so no cookies are allowed."""
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_ANSWER_HEADERS,
        max_age=3600,
    )


def _host_name(host: str) -> str:
    """Without the port, in lower case: `[::1]:8000` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _is_of_this_machine(name: str) -> bool:
    """`localhost` and names below it (RFC 6761, 6.3), and loopback addresses. No DNS server can redirect these."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
