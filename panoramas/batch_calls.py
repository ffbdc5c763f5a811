"""The calls on batches and webhooks without input or output, like `panoramas.calls`."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from panoramas.arguments import batch_path, job_path
from panoramas.calls import json_bytes, parsed, send, submit_headers
from panoramas.errors import BatchWaitTimeout, ServiceError, retry_after
from panoramas.exchange import BUSY_SUBMIT, Call, Pause, Request, Tell
from panoramas.results import Batch, Job, Webhook

OnBatchProgress = Callable[[Batch], Any]

_POLL_SECONDS = 2.0  # if the server names none


def submit_batch(items: Iterable[Mapping[str, Any]], lenient: bool, key: str | None) -> Call[Batch]:
    """`POST /batches` as JSON lines."""
    headers = submit_headers("application/x-ndjson", key)
    if lenient:
        headers["Prefer"] = "handling=lenient"
    body = b"".join(json_bytes(item) + b"\n" for item in items)
    response = yield from send(Request("POST", "/batches", headers, body, held=60, busy=BUSY_SUBMIT))
    return parsed(Batch.of, response)


def get_batch(batch: Batch | str) -> Call[Batch]:
    """`GET /batches/{id}`."""
    response = yield from send(Request("GET", batch_path(batch)))
    return parsed(Batch.of, response)


def wait_batch(batch: Batch | str, timeout: float | None, on_progress: OnBatchProgress | None) -> Call[Batch]:
    """Poll until all jobs of the batch have ended."""
    deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
    while True:
        patience = max(deadline - time.monotonic(), 1.0)
        response = yield from send(Request("GET", batch_path(batch), patience=patience))
        seen = parsed(Batch.of, response)
        if on_progress is not None:
            yield Tell(on_progress, seen)
        if seen.ended:
            return seen
        left = deadline - time.monotonic()
        if left <= 0:
            raise BatchWaitTimeout(seen)
        yield Pause(min(retry_after(response) or _POLL_SECONDS, left))


def cancel_batch(batch: Batch | str) -> Call[Batch]:
    """`POST /batches/{id}/cancel`."""
    response = yield from send(Request("POST", f"{batch_path(batch)}/cancel"))
    return parsed(Batch.of, response)


def batch_zip(batch: Batch | str, sink: BinaryIO) -> Call[None]:
    """`GET /batches/{id}/images.zip` into a file."""
    response = yield from send(Request("GET", f"{batch_path(batch)}/images.zip", sink=sink))
    if not zipfile.is_zipfile(sink):  # its directory stands at the end, so that a cut archive is noticed
        raise ServiceError("the archive received is not complete", status=response.status_code)


def webhook(job: Job | str) -> Call[Webhook]:
    """`GET /jobs/{id}/webhook`."""
    response = yield from send(Request("GET", f"{job_path(job)}/webhook"))
    return parsed(Webhook.of, response)


def redeliver_webhook(job: Job | str) -> Call[Webhook]:
    """`POST /jobs/{id}/webhook/redeliver`. After a lost response it may call twice, under the same `webhook-id`."""
    response = yield from send(Request("POST", f"{job_path(job)}/webhook/redeliver"))
    return parsed(Webhook.of, response)


def webhook_secret() -> Call[str]:
    """`GET /webhooks/secret`."""
    response = yield from send(Request("GET", "/webhooks/secret"))
    return parsed(lambda body: str(body["secret"]), response)
