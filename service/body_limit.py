"""Refuses a request body beyond a size before it is held in memory (RFC 9110, 413)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import ProblemError, problem_response


class BodyLimit:
    """ASGI middleware: by `Content-Length` where there is one, else by counting what arrives."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit:
            await self._refuse(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise EOFError("the body is too large")  # the application answers it somehow; see `unless_over`
            return message

        async def unless_over(message: Message) -> None:
            if received <= self._limit:
                await send(message)

        await self._app(scope, counted, unless_over)
        if received > self._limit:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = ProblemError(
            413, "body-too-large", "The body is too large", f"body: at most {self._limit} bytes are accepted"
        )
        await problem_response(problem)(scope, receive, send)
