"""Every problem that this service reports: its kind, its HTTP status and its title (RFC 9457).

The API answers requests with them; the worker writes them into a failed job's `error`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One row of the table. A title may hold a `{placeholder}` that the error fills in."""

    name: str
    status: int
    title: str

    @property
    def urn(self) -> str:
        """The problem's `type`."""
        return f"urn:panoramas:problem:{self.name}"


PROBLEMS: dict[str, ProblemKind] = {
    name: ProblemKind(name, status, title)
    for name, status, title in (
        # Answers to a request
        ("body-cut", 400, "The body broke off"),
        ("http-error", 400, "Bad Request"),  # any other error of the web framework, with that error's status and phrase
        ("not-http", 400, "This is not HTTP/1.1"),
        ("unauthorized", 401, "An API key is needed"),
        ("cross-site", 403, "Web pages of other sites may not do this"),
        ("not-found", 404, "Not Found"),
        ("no-such-job", 404, "There is no such job"),
        ("no-such-batch", 404, "There is no such batch"),
        ("no-preview", 404, "There is no preview"),
        ("no-webhook", 404, "The job has no webhook"),
        ("no-webhooks", 404, "This server calls no webhooks"),
        ("method-not-allowed", 405, "Method Not Allowed"),
        ("not-acceptable", 406, "The image cannot be had in that form"),
        ("request-timeout", 408, "The request did not arrive in time"),
        ("no-image", 409, "The job has no image: it {state}"),
        ("not-ended", 409, "The job has not ended"),
        ("expired", 410, "It has expired or was deleted"),
        ("body-too-large", 413, "The body is too large"),
        ("unsupported-media-type", 415, "A body of this type is not understood"),
        ("range-outside", 416, "The range lies outside the image"),
        ("invalid-request", 422, "The request is not valid"),
        ("idempotency-key-reused", 422, "The Idempotency-Key was used before"),
        ("misdirected", 421, "This server does not answer for that host"),
        ("rate-limited", 429, "Too many requests"),
        ("queue-full", 429, "The queue is full"),
        ("queue-full-for-key", 429, "The queue is full"),
        ("headers-too-large", 431, "The headers are too large"),
        ("internal-error", 500, "The server met an unexpected error"),  # also the `error` of a job
        ("image-damaged", 500, "The stored image does not match its digest"),
        ("unavailable", 503, "The {service} does not answer"),
        ("too-many-connections", 503, "As many clients are connected as this server allows"),
        ("model-pending", 503, "What the model can paint is not known yet"),
        ("image-store-full", 507, "The image store is full"),
        ("kept-full-for-key", 507, "As much is kept for you as this server allows"),
        ("queue-storage-full", 507, "The queue's storage is full"),
        # The `error` of a failed job
        ("attempts-used-up", 500, "Every attempt ended without a result"),
        ("bad-picture", 500, "The model did not produce a picture"),
        ("cannot-be-painted", 500, "The request cannot be painted by this model"),
        ("device-error", 500, "The device failed"),
        ("engine-error", 500, "The picture could not be painted"),
        ("job-timeout", 500, "The job took longer than the server allows"),
        ("load-timeout", 500, "The model did not load in time"),
        ("model-fault", 500, "The model cannot paint this request"),
        ("model-process-died", 500, "The model process died"),
        ("model-unavailable", 500, "The model cannot be loaded"),
        ("out-of-memory", 500, "The picture does not fit into the device's memory"),
        ("step-timeout", 500, "The model process stopped making progress"),
        ("store-failed", 500, "The picture could not be stored"),
        ("worker-stopped", 500, "The worker was stopped"),
    )
}
