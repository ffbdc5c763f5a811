"""HEAD, answered by the handlers of GET (RFC 9110, section 9.3.2)."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def is_head(request: Request) -> bool:
    """Whether the body of the answer is not wanted."""
    return bool(request.scope.get("state", {}).get("head"))


class HeadMiddleware:
    """Runs the handler of GET up to its headers; what would follow, such as a long stream, is never made."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        answered = asyncio.Event()

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["method"] = "HEAD"
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered.set()
            elif message["type"] == "http.response.body":
                await asyncio.Event().wait()  # until it is canceled, below

        scope["method"] = "GET"
        scope.setdefault("state", {})["head"] = True
        # Ranges are defined for GET alone (RFC 9110, 14.2).
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"range"]
        handler = asyncio.ensure_future(self._app(scope, receive, send_head))
        waiting = asyncio.create_task(answered.wait())
        await asyncio.wait({handler, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if answered.is_set():
            handler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await handler
        else:
            await handler  # it failed before it answered
