"""Logs: plain lines for people, or one JSON object per line for machines, with the ids of the job and the trace."""

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
    """Log to standard error. `form` is text or json."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "PIL", "rq", "opentelemetry"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def set_job(job_id: str) -> None:
    """Add this job's id to everything that this task or thread logs from now on."""
    _job.set(job_id)


@contextmanager
def job_context(job_id: str) -> Iterator[None]:
    """Add this job's id to everything logged inside the block."""
    token = _job.set(job_id)
    try:
        yield
    finally:
        _job.reset(token)


class JsonLines(logging.Formatter):
    """Fields: `time`, `level`, `logger`, `message`, `process`; `job_id`, `trace_id` and `exception` where known."""

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
