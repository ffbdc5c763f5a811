"""Records each request as a span. A client's `traceparent` header makes the span part of the client's trace."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs import tracing

_UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})


class TracingMiddleware:
    """One span for each request. The span of an event stream lasts as long as the stream."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "")
                tracing.annotate(
                    f"{scope['method']} {route}".strip(),
                    http__route=route,
                    http__response__status_code=message["status"],
                )
                if message["status"] >= 500:
                    tracing.fail(f"status {message['status']}")
            await send(message)

        with tracing.span(
            scope["method"],
            kind="server",
            parent=Headers(scope=scope).get("traceparent", ""),
            http__request__method=scope["method"],
            url__path=scope["path"],
        ):
            await self._app(scope, receive, send_and_note)
