"""How a job's webhook stands, calling it again, and the secret to verify it with."""

from __future__ import annotations

from fastapi import APIRouter

from jobs.board import JobView
from jobs.record import JobRecord, State
from service.dependencies import Caller, FoundJob, Held, gone
from service.problems import ProblemError
from service.responses import Responses, problems
from service.webhooks.schemas import JobEnded, Webhook, WebhookSecret, webhook_out

router = APIRouter(tags=["webhooks"])
calls = APIRouter(tags=["webhooks"])  # those that are made, not answered

_HEARD: Responses = {
    204: {"description": "Accepted; any other 2xx will do"},
    410: {"description": "Nobody is there any more: this address is not called again"},
}


@router.get(
    "/webhooks/secret",
    operation_id="getWebhookSecret",
    summary="The secret that your webhooks are signed with",
    response_model=WebhookSecret,
    responses=problems(404),
)
async def get_webhook_secret(services: Held, caller: Caller) -> WebhookSecret:
    """Verify with it that a call came from this server: every API key's owner has one of its own."""
    if services.signer is None:
        raise ProblemError(404, "no-webhooks", "This server calls no webhooks")
    return WebhookSecret(secret=services.signer.secret(caller.owner))


@router.get(
    "/jobs/{job_id}/webhook",
    operation_id="getWebhook",
    summary="How a job's webhook stands",
    response_model=Webhook,
    responses=problems(404, 410, 422),
)
async def get_webhook(view: FoundJob, services: Held) -> Webhook:
    """Attempts made, the last answer, and when it is tried again."""
    return webhook_out(_has_webhook(view), await services.outbox.status(view.record.id))


@router.post(
    "/jobs/{job_id}/webhook/redeliver",
    operation_id="redeliverWebhook",
    summary="Call a job's webhook again",
    status_code=202,
    response_model=Webhook,
    responses=problems(404, 409, 410, 422),
)
async def redeliver_webhook(view: FoundJob, services: Held) -> Webhook:
    """At once, and with all its attempts, whether it was delivered, given up or disabled. `webhook-id` stays."""
    record = _has_webhook(view)
    if not await services.outbox.again(record.id):
        raise ProblemError(409, "not-ended", "The job has not ended", "Its webhook is called when it has.")
    return webhook_out(record, await services.outbox.status(record.id))


def _has_webhook(view: JobView) -> JobRecord:
    if view.record.state == State.EXPIRED:
        raise gone()
    if not view.record.webhook_url:
        raise ProblemError(404, "no-webhook", "The job has no webhook", "Give webhook_url with the submit.")
    return view.record


@calls.post("panoramaEnded", operation_id="panoramaEnded", summary="A job has ended", status_code=204, responses=_HEARD)
async def panorama_ended(body: JobEnded) -> None:
    """Sent to the `webhook_url` of a job at its end, signed by Standard Webhooks (`webhook-id`, `webhook-timestamp`,
    `webhook-signature`). Any 2xx accepts it; 410 has this address called no more; everything else is tried again."""
