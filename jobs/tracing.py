"""Traces from the request through the job's record into the worker (W3C Trace Context).

Spans are recorded when OpenTelemetry is installed (the extra `[otel]`) and configured by its own variables:
`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER` and so on. Otherwise a client's `traceparent` is still kept in its
job, and its trace id still appears in the logs.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

# Version 00, the only one there is, has 55 characters. A later one may have any length, and each job keeps its copy.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str] = ContextVar("traceparent", default="")
_tracer: Tracer | None = None


def setup(role: str) -> None:
    """Start to send spans, if an endpoint is configured. `role` names the service unless OTEL_SERVICE_NAME is set."""
    global _tracer  # noqa: PLW0603 - one process has one tracer, as OpenTelemetry itself has
    wanted = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not any(os.environ.get(name) for name in wanted):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no traces: install multidiffusion-service[otel]")
        return
    name = os.environ.get("OTEL_SERVICE_NAME", f"panoramas-{role}")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("panoramas")


def current() -> str:
    """The current `traceparent`; '' outside of any trace."""
    return _current.get()


def trace_id() -> str:
    """The current trace's id; '' outside of any trace."""
    found = _TRACEPARENT.fullmatch(current())
    return found[1] if found else ""


@contextmanager
def span(name: str, *, kind: str = "internal", parent: str | None = None, **attributes: Any) -> Iterator[None]:
    """A span around the block. `parent` is a `traceparent` from elsewhere; None means the enclosing span.

    An exception that leaves the block marks the span as failed.
    """
    given = current() if parent is None else parent if _TRACEPARENT.fullmatch(parent) else ""
    if _tracer is None:
        token = _current.set(given)
        try:
            yield
        finally:
            _current.reset(token)
        return
    from opentelemetry.trace import SpanKind

    with _tracer.start_as_current_span(
        name, context=_context(given), kind=SpanKind[kind.upper()], attributes=_named(attributes)
    ) as started:
        context = started.get_span_context()
        token = _current.set(f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}")
        try:
            yield
        finally:
            _current.reset(token)


def finished_span(name: str, start_ns: int, end_ns: int, *, parent: str | None = None, **attributes: Any) -> None:
    """Record a span that has already ended; times are nanoseconds since the epoch."""
    if _tracer is not None:
        context = _context(current() if parent is None else parent)
        _tracer.start_span(name, context=context, start_time=start_ns, attributes=_named(attributes)).end(end_ns)


def annotate(name: str | None = None, **attributes: Any) -> None:
    """Add attributes to the current span, or rename it."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        here = get_current_span()
        here.set_attributes(_named(attributes))
        if name:
            here.update_name(name)


def event(name: str, **attributes: Any) -> None:
    """Add an event to the current span."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().add_event(name, _named(attributes))


def fail(why: str) -> None:
    """Mark the current span as failed."""
    if _tracer is not None:
        from opentelemetry.trace import Status, StatusCode, get_current_span

        get_current_span().set_status(Status(StatusCode.ERROR, why))


def _context(traceparent: str) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    """Replace `__` by a dot, which a Python keyword cannot contain: `http__route` becomes `http.route`."""
    return {name.replace("__", "."): value for name, value in attributes.items()}
