"""Logs: lines for people, or one JSON object a line for machines, each with the job and the trace it is about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from jobs import tracing

_job: ContextVar[str] = ContextVar("job", default="")


def setup(level: str, form: str) -> None:
    """Log to standard error from now on. `form` is text or json."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "PIL", "rq", "opentelemetry"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def now_about(job_id: str) -> None:
    """What this task or thread logs from now on is about a job."""
    _job.set(job_id)


@contextmanager
def about(job_id: str) -> Iterator[None]:
    """What is logged inside is about a job."""
    token = _job.set(job_id)
    try:
        yield
    finally:
        _job.reset(token)


class JsonLines(logging.Formatter):
    """`time`, `level`, `logger`, `message`, and where they are known `job_id`, `trace_id` and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            "job_id": _job.get(),
            "trace_id": tracing.trace_id(),
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({name: value for name, value in line.items() if value != ""}, default=str)
