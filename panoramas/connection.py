"""What both clients share of their connection: where to, with which headers and time-outs; checked when it is made."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from panoramas._version import __version__
from panoramas.arguments import check_api_key, check_base_url, check_headers
from panoramas.errors import InvalidArgumentError
from panoramas.exchange import Request

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE_SECONDS = 60.0
TIMEOUT_SECONDS = 30.0
_BARE_HEADERS = {"host", "accept", "accept-encoding", "connection", "user-agent"}


@dataclass(frozen=True, slots=True)
class Connection:
    """The address, headers and time-outs of every request. Its representation does not show the API key."""

    base_url: str
    headers: httpx.Headers = field(repr=False)
    timeout: httpx.Timeout
    patience: float

    def build(self, http_client: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
        """The request with every header. One that goes `elsewhere` has none of the caller's: they may be secrets."""
        headers = self.headers.copy()
        headers.update(request.headers)
        held = None if self.timeout.read is None else self.timeout.read + request.held
        built = http_client.build_request(
            request.method,
            request.path if request.elsewhere else self.base_url + request.path,
            headers=headers,
            content=request.content,
            timeout=httpx.Timeout(**{**self.timeout.as_dict(), "read": held}),
        )
        if request.elsewhere:
            for name in set(built.headers) - _BARE_HEADERS:
                del built.headers[name]
        return built


def sending(request: Request) -> dict[str, Any]:
    """How httpx is to send a request. It follows no redirect: that could lead the key to another host."""
    auth = None if request.elsewhere else httpx.USE_CLIENT_DEFAULT
    return {"auth": auth, "follow_redirects": False, "stream": True}


def connect(
    kind: type[C],
    http_client: C | None,
    *,
    base_url: str | None,
    api_key: str | None,
    timeout: float | None,
    patience: float,
    headers: Mapping[str, str] | None,
    proxy: str | httpx.Proxy | None,
    transport: Any,
) -> tuple[C, Connection]:
    """The caller's HTTP client or a new one of that kind, and the connection.

    Raises:
        InvalidArgumentError: naming the argument at fault, never its secret.
    """
    extra = check_headers(headers or {})
    if http_client is None:
        with _refused_options():
            http_client = kind(timeout=TIMEOUT_SECONDS, proxy=proxy, transport=transport)
    elif proxy is not None or transport is not None:
        raise InvalidArgumentError("http_client has a proxy and a transport of its own: pass them to it instead")
    elif not isinstance(http_client, kind):
        raise InvalidArgumentError(f"http_client: must be an httpx.{kind.__name__}")
    key = check_api_key(_api_key(api_key, extra, http_client))
    address = check_base_url(*_address(base_url, http_client))
    seconds = httpx.Timeout(timeout) if timeout is not None else http_client.timeout
    named = httpx.Headers({"User-Agent": f"panoramas-python/{__version__}"})
    named.update(extra)
    named.update(_key_header(key, named, http_client))
    return http_client, Connection(address, named, seconds, patience)


def _address(base_url: str | None, http_client: httpx.Client | httpx.AsyncClient) -> tuple[str, str]:
    """The address, and what it comes from."""
    if base_url:
        return base_url, "base_url"
    if str(http_client.base_url):
        return str(http_client.base_url), "the http_client's base_url"
    if url := os.environ.get("PANORAMAS_URL"):
        return url, "PANORAMAS_URL"
    return DEFAULT_URL, "base_url"


def _api_key(api_key: str | None, headers: Mapping[str, str], http_client: httpx.Client | httpx.AsyncClient) -> str:
    """The key to send. One in the caller's own headers goes before that of the environment."""
    if "x-api-key" in httpx.Headers(headers) or "x-api-key" in http_client.headers:
        if api_key:
            raise InvalidArgumentError("api_key: the headers have another one, X-API-Key")
        return ""
    return os.environ.get("PANORAMAS_API_KEY", "") if api_key is None else api_key


def _key_header(key: str, headers: httpx.Headers, http_client: httpx.Client | httpx.AsyncClient) -> dict[str, str]:
    """The key as `Authorization`, or as `X-API-Key` if the caller uses the other one, for a proxy for example."""
    if not key:
        return {}
    taken = "authorization" in headers or "authorization" in http_client.headers
    return {"X-API-Key": key} if taken or http_client.auth is not None else {"Authorization": f"Bearer {key}"}


@contextmanager
def _refused_options() -> Iterator[None]:
    """httpx's refusals of a proxy or of certificates, which may also come from the environment, as ours."""
    try:
        yield
    except ImportError:
        raise InvalidArgumentError("a SOCKS proxy needs another package: pip install 'httpx[socks]'") from None
    except (ValueError, httpx.InvalidURL):  # its text may repeat a password
        raise InvalidArgumentError(
            "the proxy (proxy=, HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) is not an address that begins with http://,"
            " https:// or socks5://"
        ) from None
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgumentError(f"the certificates (SSL_CERT_FILE, SSL_CERT_DIR) cannot be read: {error}") from None
