"""The body of a webhook call, and the delivery status that clients see."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from jobs.outbox import CallState, CallStatus
from jobs.record import JobRecord
from service.schemas.common import utc_time
from service.schemas.jobs import Job


class JobEnded(BaseModel):
    """What a webhook is told."""

    type: Literal["panorama.succeeded", "panorama.failed", "panorama.canceled"]
    timestamp: datetime = Field(description="When the job ended")
    data: Job = Field(description="The job, as `GET /jobs/{id}` shows it")


class Webhook(BaseModel):
    """How the call of a job's webhook stands."""

    id: str = Field(description="`webhook-id`, the same with every attempt")
    url: str
    state: CallState = Field(
        description="`waiting` for the job's end, `pending` until the next attempt, `sending`; `delivered`, `failed`"
        " when all attempts are used up, `disabled` when the address has answered 410"
    )
    attempts: int
    last_attempt_at: datetime | None
    last_status: int | None = Field(description="HTTP status of the last answer; null where nothing has answered")
    last_error: str | None
    next_attempt_at: datetime | None


class WebhookSecret(BaseModel):
    """For the libraries of Standard Webhooks."""

    secret: str = Field(description="`whsec_` and base64")


def message_id(record: JobRecord) -> str:
    """The `webhook-id` of a job's final event. Receivers use it to ignore repeated deliveries."""
    return f"msg_{record.id}"


def webhook_schema(record: JobRecord, call: CallStatus) -> Webhook:
    """The wire form of a webhook's delivery status."""
    return Webhook(
        id=message_id(record),
        url=record.webhook_url,
        state=call.state,
        attempts=call.attempts,
        last_attempt_at=utc_time(call.last_at),
        last_status=call.last_status,
        last_error=call.last_error,
        next_attempt_at=utc_time(call.next_at),
    )
