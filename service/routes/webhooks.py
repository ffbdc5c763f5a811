"""A webhook's delivery status, its redelivery, and the secret to verify calls with."""

from __future__ import annotations

from fastapi import APIRouter, Response

from jobs.board import JobView
from jobs.record import JobRecord, State
from service.dependencies import AppServices, CurrentCaller, RequestedJob, expired
from service.openapi_responses import Responses, problem_responses
from service.problems import ProblemError
from service.schemas.webhooks import JobEnded, Webhook, WebhookSecret, webhook_schema

router = APIRouter(tags=["webhooks"])
outgoing_calls = APIRouter(tags=["webhooks"])  # documents the calls that this service makes

_RECEIVER_RESPONSES: Responses = {
    204: {"description": "Accepted; any other 2xx will do"},
    410: {"description": "Nobody is there any more: this address is not called again"},
}


@router.get(
    "/webhooks/secret",
    operation_id="getWebhookSecret",
    summary="The secret that your webhooks are signed with",
    response_model=WebhookSecret,
    responses=problem_responses(404),
)
async def get_webhook_secret(services: AppServices, caller: CurrentCaller, response: Response) -> WebhookSecret:
    """Verify with it that a call came from this server: every API key's owner has one of its own."""
    if services.signer is None:
        raise ProblemError("no-webhooks")
    response.headers["Cache-Control"] = "no-store"
    return WebhookSecret(secret=services.signer.secret(caller.owner))


@router.get(
    "/jobs/{job_id}/webhook",
    operation_id="getWebhook",
    summary="How a job's webhook stands",
    response_model=Webhook,
    responses=problem_responses(404, 410, 422),
)
async def get_webhook(view: RequestedJob, services: AppServices) -> Webhook:
    """Attempts made, the last answer, and when it is tried again."""
    return webhook_schema(_record_with_webhook(view), await services.outbox.status(view.record.id))


@router.post(
    "/jobs/{job_id}/webhook/redeliver",
    operation_id="redeliverWebhook",
    summary="Call a job's webhook again",
    status_code=202,
    response_model=Webhook,
    responses=problem_responses(404, 409, 410, 422),
)
async def redeliver_webhook(view: RequestedJob, services: AppServices) -> Webhook:
    """At once, and with all its attempts, whether it was delivered, given up or disabled. `webhook-id` stays."""
    record = _record_with_webhook(view)
    if not await services.outbox.again(record.id):
        raise ProblemError("not-ended", "Its webhook is called when it has.")
    return webhook_schema(record, await services.outbox.status(record.id))


def _record_with_webhook(view: JobView) -> JobRecord:
    if view.record.state == State.EXPIRED:
        raise expired()
    if not view.record.webhook_url:
        raise ProblemError("no-webhook", "Give webhook_url with the submit.")
    return view.record


@outgoing_calls.post(
    "{$request.body#/webhook_url}",
    operation_id="panoramaEnded",
    summary="A job has ended",
    status_code=204,
    responses=_RECEIVER_RESPONSES,
)
async def panorama_ended(body: JobEnded) -> None:
    """Sent to the `webhook_url` of a job at its end, signed by Standard Webhooks (`webhook-id`, `webhook-timestamp`,
    `webhook-signature`). Any 2xx accepts it; 410 has this address called no more; everything else is tried again."""
