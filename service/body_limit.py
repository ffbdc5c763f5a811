"""Refuses request bodies over a limit before they fill the memory (RFC 9110, 15.5.14)."""

from __future__ import annotations

from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import ProblemError, problem_response


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        is_large = scope["path"] == "/batches" or headers.get(b"content-type", b"").startswith(b"image/png")
        limit = self._large if is_large else self._limit
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            await _refuse(limit, scope, receive, send)
            return
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


async def _refuse(limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    problem = ProblemError("body-too-large", f"body: at most {limit} bytes are accepted")
    await problem_response(problem)(scope, receive, send)
