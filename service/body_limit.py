"""Refuses request bodies over a limit before they fill the memory (RFC 9110, 15.5.14)."""

from __future__ import annotations

from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import ProblemError, problem_response

_MAX_LARGE_BODIES = 32  # at a time: each may take the disk space of the limit


class _TooLarge(Exception):
    """More bytes than the limit have arrived."""


class BodyLimitMiddleware:
    """Checks `Content-Length`, and counts the bytes that arrive, which covers bodies without one.

    `large` is the limit for batches and pictures, whose handlers write the body to a file as it arrives.
    """

    def __init__(self, app: ASGIApp, limit: int, large: int) -> None:
        self._app = app
        self._limit = limit
        self._large = large
        self._large_bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        may_be_large = scope["path"] == "/batches" or headers.get(b"content-type", b"").lower().startswith(b"image/png")
        limit = self._large if may_be_large else self._limit
        declared = headers.get(b"content-length")
        size = limit if declared is None else int(declared) if declared.isdigit() and len(declared) < 20 else limit + 1
        if size > limit:
            await _refuse(limit, scope, receive, send)
        elif size <= self._limit:
            await self._limited(limit, scope, receive, send)
        elif self._large_bodies >= _MAX_LARGE_BODIES:
            await problem_response(_too_many())(scope, receive, send)
        else:
            self._large_bodies += 1
            try:
                await self._limited(limit, scope, receive, send)
            finally:
                self._large_bodies -= 1

    async def _limited(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLarge
            return message

        async def send_within_limit(message: Message) -> None:
            if received <= limit:
                await send(message)

        # The application may handle `_TooLarge` and send a response of its own, which `send_within_limit` drops.
        with suppress(_TooLarge):
            await self._app(scope, counting_receive, send_within_limit)
        if received > limit:
            await _refuse(limit, scope, receive, send)


def _too_many() -> ProblemError:
    detail = f"{_MAX_LARGE_BODIES} large bodies are arriving. Nothing was accepted; try again later."
    return ProblemError("too-many-connections", detail, headers={"Retry-After": "5"})


async def _refuse(limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    problem = ProblemError("body-too-large", f"body: at most {limit} bytes are accepted")
    await problem_response(problem)(scope, receive, send)
