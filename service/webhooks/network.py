"""Sends one POST to a URL that a client has given, and connects only to addresses that the rules allow.

Every attempt resolves the host again, checks all its addresses, and connects to one of the addresses just checked, so
a DNS answer that changes in between (DNS rebinding) has no effect. The host name is still used for `Host` and TLS. No
redirect is followed, no proxy from the environment is used, no connection is reused, and only the head of the response
is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore
import httpx

from service.webhooks.targets import Address, TargetRules

log = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


class NoAllowedAddress(httpcore.ConnectError):
    """The host has no address that may be called. The addresses are not reported, because they may be internal."""


@dataclass(frozen=True, slots=True)
class WebhookResponse:
    """`status` is None when there was no response; `retry_after` is the header's value in seconds, else 0."""

    status: int | None
    error: str | None = None
    retry_after: float = 0.0


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Every address of a host, from this machine's resolver. Runs in a thread, so the event loop does not block.

    Raises:
        OSError, UnicodeError: when the host cannot be resolved.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(address[0]) for *_, address in found]


class CheckedNetworkBackend(httpcore.AnyIOBackend):
    """Connects only to addresses that the rules allow."""

    def __init__(self, rules: TargetRules, look_up: Resolve) -> None:
        super().__init__()
        self._rules = rules
        self._look_up = look_up

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the parent's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. If any address is not allowed, none is tried."""
        failure: Exception = NoAllowedAddress(host)
        for address in await self._allowed_addresses(host, port):
            try:
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _allowed_addresses(self, host: str, port: int) -> Sequence[Address]:
        try:
            addresses = await self._look_up(host, port)
        except (OSError, UnicodeError, ValueError) as error:
            raise NoAllowedAddress(host) from error
        for address in addresses:
            if not self._rules.allows(address):
                log.warning("webhook: %s resolves to %s, which is not allowed", host, address)
                raise NoAllowedAddress(host)
        return addresses


class WebhookClient:
    """Sends webhook calls. `timeout` seconds cover everything from name resolution to the response's head."""

    def __init__(
        self, rules: TargetRules, *, timeout: float, look_up: Resolve = resolve, tls: ssl.SSLContext | None = None
    ) -> None:
        self._rules = rules
        self._timeout = timeout
        self._tls = tls or httpx.create_ssl_context()
        self._network = CheckedNetworkBackend(rules, look_up)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> WebhookResponse:
        """Send one call. Failures of the target are returned, never raised."""
        try:
            self._rules.url(url)  # checked again, because the rules may have changed since the submit
            async with (
                asyncio.timeout(self._timeout),
                self._connection(url) as connection,
                connection.stream("POST", url, headers=list(headers.items()), content=body) as response,
            ):
                return _read_response(response.status, {name.lower(): value for name, value in response.headers})
        except ValueError as error:
            return WebhookResponse(None, f"the address {error}")
        except NoAllowedAddress:
            return WebhookResponse(None, "the name has no address that may be called")
        except (TimeoutError, httpcore.TimeoutException):
            return WebhookResponse(None, f"no answer within {self._timeout:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            log.info("webhook: the connection failed: %r", error)
            tls = isinstance(error.__cause__ or error.__context__, ssl.SSLError)
            return WebhookResponse(None, "TLS failed: is its certificate valid?" if tls else "the connection failed")

    def _connection(self, url: str) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            httpcore.URL(url).origin, ssl_context=self._tls, network_backend=self._network
        )


def _read_response(status: int, headers: Mapping[bytes, bytes]) -> WebhookResponse:
    if 200 <= status < 300:
        return WebhookResponse(status)
    if 300 <= status < 400:
        return WebhookResponse(status, "it redirects, and no redirect is followed")
    return WebhookResponse(
        status, f"it answered {status}", _seconds(headers.get(b"retry-after", b"").decode("latin-1").strip())
    )


def _seconds(retry_after: str) -> float:
    """`Retry-After` in seconds, from its number or its date (RFC 9110, 10.2.3); 0 if it is missing or invalid."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
