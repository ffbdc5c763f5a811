"""The protocol between the calls and the clients, without input or output, and the retries.

A call is a generator. When it yields a `Request`, send it the response or the transport's error; when it yields a
`Pause`, send it None after that many seconds; when it yields a `Tell`, call that function. It returns the result of the
call.
`panoramas.calls` has the calls, `panoramas.client` and `panoramas.async_client` the two loops that run them.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, TypeVar

import httpx

from panoramas.errors import APIConnectionError, ServiceError, retry_after

T = TypeVar("T")
log = logging.getLogger("panoramas")

BUSY = frozenset({429, 502, 503, 504})  # retried: nothing was done, or doing it again changes nothing
BUSY_SUBMIT = BUSY | {409, 425, 507}  # also: the same key is still in flight; no room at the moment
_LONGEST_PAUSE = 8.0  # if the server names none


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. It is always safe to retry: it reads, is idempotent, or carries an Idempotency-Key.

    Attributes:
        held: for how many seconds the server may delay the response.
        accepted: statuses besides 2xx that count as success.
        patience: retry for at most that many seconds, where that is less than the client's own patience.
        elsewhere: `path` is a whole address, to which neither the API key nor other headers of the caller are sent.
        sink: receives a successful response's body while it arrives; emptied before each try.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    held: float = 0.0
    busy: frozenset[int] = BUSY
    accepted: frozenset[int] = frozenset()
    patience: float = float("inf")
    elsewhere: bool = False
    sink: BinaryIO | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for that many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Call `callback` with `value`. The asynchronous client awaits what it returns, if that can be awaited."""

    callback: Callable[[Any], Any]
    value: Any


Outcome = httpx.Response | httpx.RequestError | None
Call = Generator[Request | Pause | Tell, httpx.Response | None, T]
RetriedCall = Generator[Request | Pause | Tell, Outcome, T]


def retrying(call: Call[T], patience: float) -> RetriedCall[T]:
    """The call, with each request sent again until its response is final, for `patience` seconds.

    Raises:
        ServiceError: the service refused a request, or did not respond in time.
    """
    advance: Callable[[], Request | Pause | Tell] = partial(call.send, None)
    while True:
        try:
            step = advance()
        except StopIteration as end:
            return end.value
        advance = partial(call.send, None)
        if isinstance(step, Request):
            try:
                advance = partial(call.send, (yield from _exchange(step, patience)))
            except ServiceError as error:  # the call may know more about it
                advance = partial(call.throw, error)
        else:
            yield step


def _exchange(request: Request, patience: float) -> RetriedCall[httpx.Response]:
    tries = Patience(min(patience, request.patience))
    while True:
        outcome = yield request
        if isinstance(outcome, httpx.Response) and outcome.status_code not in request.busy:
            if outcome.is_success or outcome.status_code in request.accepted:
                return outcome
            raise ServiceError.of(outcome)
        yield Pause(tries.pause(outcome, request.path))


class Patience:
    """The retries of one request, for a limited time from now.

    `pause` gives the seconds until the next try: the server's Retry-After, or a random share of a time that doubles,
    so that many clients do not return at the same moment.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._longest = 0.5
        self._warned = False

    def pause(self, outcome: Outcome, path: str) -> float:
        """Raises:
        ServiceError: when the time is over, or trying again cannot help.
        """
        requested = retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        if requested is None:
            seconds = random.uniform(self._longest / 2, self._longest)
            self._longest = min(self._longest * 2, _LONGEST_PAUSE)
        else:
            seconds = requested + random.uniform(0, min(0.1 * requested, 1))
        left = self._deadline - time.monotonic()
        if seconds <= left and not _is_hopeless(outcome):
            if not self._warned:  # the user should know why nothing happens
                where = path.partition("?")[0]  # without the signature of a bucket's address
                log.warning("%s: %s; trying again for up to %.0f s", where, _describe(outcome), left)
                self._warned = True
            return seconds
        if isinstance(outcome, httpx.Response):
            raise ServiceError.of(outcome)
        why = f"{_describe(outcome)} ({_where(outcome, path)})"
        raise APIConnectionError(f"the service does not respond: {why}") from outcome


def without_secrets(error: httpx.RequestError) -> httpx.RequestError:
    """The error without the headers of its request, which hold the API key: it becomes the cause of an exception."""
    with suppress(RuntimeError):  # it has no request
        error.request.headers.clear()
    return error


def _where(outcome: httpx.RequestError | None, path: str) -> str:
    """The address that was asked, as far as it is known."""
    with suppress(RuntimeError):
        if outcome is not None:
            return str(outcome.request.url.copy_with(query=None))
    return path.partition("?")[0]


def _is_hopeless(outcome: Outcome) -> bool:
    """Whether every further try would fail in the same way: a fault of the request, or the certificate."""
    if isinstance(outcome, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return True
    cause: BaseException | None = outcome if isinstance(outcome, BaseException) else None
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _describe(outcome: Outcome) -> str:
    if isinstance(outcome, httpx.Response):
        return f"HTTP {outcome.status_code} {outcome.reason_phrase}"
    return str(outcome) or type(outcome).__name__
