"""One POST to an address that a client has given: to a checked address of it, and to nowhere else.

Every attempt looks the name up anew, checks all its addresses, and connects to one of those just checked, with the
name in `Host` and in TLS; so a name that changes its mind between check and connection gains nothing. No redirect is
followed, no proxy of the environment is used, no connection is kept, and of an answer nothing but its head is read.
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


class NoAddress(httpcore.ConnectError):
    """The name has no address that may be called. It does not say which it has: that may be nobody's business."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is None where nothing has answered; `retry_after` is what the answer asks for, in seconds."""

    status: int | None
    error: str | None = None
    retry_after: float = 0.0


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Every address of a name, as this machine sees it; in a thread, for a slow name server is no reason to wait.

    Raises:
        OSError, UnicodeError
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(address[0]) for *_, address in found]


class CheckedNetwork(httpcore.AnyIOBackend):
    """The only way out: connects to addresses that the rules allow."""

    def __init__(self, rules: TargetRules, look_up: Resolve) -> None:
        super().__init__()
        self._rules = rules
        self._look_up = look_up

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - its parent's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As its parent's, to the first address that answers. One that is not allowed rules all of them out."""
        failure: Exception = NoAddress(host)
        for address in await self._checked(host, port):
            try:
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _checked(self, host: str, port: int) -> Sequence[Address]:
        try:
            addresses = await self._look_up(host, port)
        except (OSError, UnicodeError, ValueError) as error:
            raise NoAddress(host) from error
        for address in addresses:
            if not self._rules.allows(address):
                log.warning("a webhook's host %s is at %s, which is not allowed", host, address)
                raise NoAddress(host)
        return addresses


class Poster:
    """Posts, within `timeout` seconds from the look-up to the answer's head."""

    def __init__(
        self, rules: TargetRules, *, timeout: float, look_up: Resolve = resolve, tls: ssl.SSLContext | None = None
    ) -> None:
        self._rules = rules
        self._timeout = timeout
        self._tls = tls or httpx.create_ssl_context()
        self._network = CheckedNetwork(rules, look_up)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Never raises for what a target does or leaves undone."""
        try:
            self._rules.url(url)  # the rules may have changed since the submit
            async with (
                asyncio.timeout(self._timeout),
                self._connection(url) as connection,
                connection.stream("POST", url, headers=list(headers.items()), content=body) as response,
            ):
                return _answer(response.status, {name.lower(): value for name, value in response.headers})
        except ValueError as error:
            return Answer(None, f"the address {error}")
        except NoAddress:
            return Answer(None, "the name has no address that may be called")
        except (TimeoutError, httpcore.TimeoutException):
            return Answer(None, f"no answer within {self._timeout:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            log.info("webhook: %r", error)
            tls = isinstance(error.__cause__ or error.__context__, ssl.SSLError)
            return Answer(None, "TLS failed: is its certificate valid?" if tls else "the connection failed")

    def _connection(self, url: str) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            httpcore.URL(url).origin, ssl_context=self._tls, network_backend=self._network
        )


def _answer(status: int, headers: Mapping[bytes, bytes]) -> Answer:
    if 200 <= status < 300:
        return Answer(status)
    if 300 <= status < 400:
        return Answer(status, "it redirects, and no redirect is followed")
    return Answer(status, f"it answered {status}", _seconds(headers.get(b"retry-after", b"").decode("latin-1").strip()))


def _seconds(retry_after: str) -> float:
    """The header's seconds or date (RFC 9110, 10.2.3); 0 where there is none to be read."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
