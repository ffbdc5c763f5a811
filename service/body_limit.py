"""Refuses a request body beyond a size before it is held in memory (RFC 9110, 413)."""

from __future__ import annotations

from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import ProblemError, problem_response


class _TooLarge(Exception):
    """More has arrived than is accepted."""


class BodyLimit:
    """ASGI middleware: by `Content-Length` where there is one, else by counting what arrives.

    `large` is for batches and pictures, which the handlers put into files as they arrive.
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

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLarge
            return message

        async def unless_over(message: Message) -> None:
            if received <= limit:
                await send(message)

        with suppress(_TooLarge):
            await self._app(scope, counted, unless_over)  # or the application answers it somehow: see `unless_over`
        if received > limit:
            await _refuse(limit, scope, receive, send)


async def _refuse(limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    detail = f"body: at most {limit} bytes are accepted"
    problem = ProblemError(413, "body-too-large", "The body is too large", detail)
    await problem_response(problem)(scope, receive, send)
