"""The OpenAPI document: FastAPI generates it from the handlers, this module completes it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from service import problems
from service.access import SECURITY_SCHEMES, UNCOUNTED, is_open
from service.openapi_examples import SCHEMAS
from service.openapi_responses import problem_responses
from service.schemas.requests import BatchRequest, PanoramaRequest

DESCRIPTION = """\
Paints panoramas from text with MultiDiffusion. Submit one with `POST /panoramas`, poll `GET /jobs/{id}` until its
`state` is terminal, then fetch `GET /jobs/{id}/image`. Errors are problem details (RFC 9457).

Where the server has API keys, send one as `Authorization: Bearer` or `X-API-Key`; what belongs to other keys does not
exist for you (404). Where requests are limited, every answer tells `RateLimit` and `RateLimit-Policy`.
"""
# Problems that every operation behind a key may answer with.
_COMMON_PROBLEMS = (401, 429, 500, 503)
_TAGS = [
    {"name": "panoramas", "description": "Submit one."},
    {"name": "batches", "description": "Submit many, look at them, cancel and fetch them together."},
    {"name": "jobs", "description": "What a submit has made: look, follow, cancel, fetch, delete."},
    {"name": "webhooks", "description": "Being called at a job's end."},
    {"name": "models", "description": "What can be asked for."},
    {"name": "health", "description": "For orchestrators and monitoring."},
]


def openapi_document(app: FastAPI, public_url: str | None) -> dict[str, Any]:
    """The application's OpenAPI 3.1 document, with problem details instead of FastAPI's own validation errors."""
    if not app.openapi_schema:
        schema = FastAPI.openapi(app)
        _components(schema)
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                _operation(path, operation)
        schema["servers"] = [{"url": public_url or "/", "description": "This server"}]
        app.openapi_schema = schema
    return app.openapi_schema


def _components(schema: dict[str, Any]) -> None:
    components = schema["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for model in (problems.Problem, problems.FieldProblem, PanoramaRequest, BatchRequest):
        written = model.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, used in written.pop("$defs", {}).items():
            components.setdefault(name, used)
        components[model.__name__] = written
    for name, examples in SCHEMAS.items():  # set here, because FastAPI drops nulls from examples
        components[name]["examples"] = examples
    schema["tags"] = _TAGS
    schema["components"]["securitySchemes"] = SECURITY_SCHEMES
    # The empty alternative is for servers without keys.
    schema["security"] = [{"bearer": []}, {"apiKey": []}, {}]


def _operation(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for callback in operation.get("callbacks", {}).values():
        for calls in callback.values():
            calls["post"]["responses"].pop("422")  # the receiver of a webhook answers, not this service
    for status, response in problem_responses(422).items():  # for parameters that the operation does not have
        responses[str(status)] = responses.get(str(status)) or response
    if is_open(path):
        operation["security"] = []
    else:
        for status, response in problem_responses(*((401, 500) if path == UNCOUNTED else _COMMON_PROBLEMS)).items():
            responses.setdefault(str(status), response)
    if "requestBody" in operation:
        for status, response in problem_responses(400, 413).items():
            responses.setdefault(str(status), response)
    operation["responses"] = dict(sorted(responses.items()))
