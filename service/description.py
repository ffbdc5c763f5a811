"""What the API's OpenAPI document says beyond what FastAPI reads off the handlers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from service import problems
from service.access import SECURITY_SCHEMES, UNCOUNTED, is_open
from service.batch_schemas import BatchRequest
from service.examples import SCHEMAS
from service.responses import problems as described
from service.schemas import PanoramaRequest

DESCRIPTION = """\
Paints panoramas from text with MultiDiffusion. Submit one with `POST /panoramas`, poll `GET /jobs/{id}` until its
`state` is terminal, then fetch `GET /jobs/{id}/image`. Errors are problem details (RFC 9457).

Where the server has API keys, send one as `Authorization: Bearer` or `X-API-Key`; what belongs to other keys does not
exist for you (404). Where requests are limited, every answer tells `RateLimit` and `RateLimit-Policy`.
"""
# What every operation behind a key may answer.
_ANYWHERE = (401, 429, 500, 503)
_TAGS = [
    {"name": "panoramas", "description": "Submit one."},
    {"name": "batches", "description": "Submit many, look at them, cancel and fetch them together."},
    {"name": "jobs", "description": "What a submit has made: look, follow, cancel, fetch, delete."},
    {"name": "webhooks", "description": "Being called at a job's end."},
    {"name": "models", "description": "What can be asked for."},
    {"name": "health", "description": "For orchestrators and monitoring."},
]


def describe(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of the application, with problems in place of FastAPI's own shape of validation errors."""
    if not app.openapi_schema:
        schema = FastAPI.openapi(app)
        _components(schema)
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                _operation(path, operation)
        for call in schema["webhooks"].values():
            call["post"]["responses"].pop("422")  # it is not us who answer
        app.openapi_schema = schema
    return app.openapi_schema


def _components(schema: dict[str, Any]) -> None:
    components = schema["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for model in (problems.Problem, problems.FieldProblem, PanoramaRequest, BatchRequest):
        written = model.model_json_schema(ref_template="#/components/schemas/{model}")
        written.pop("$defs", None)
        components[model.__name__] = written
    for name, examples in SCHEMAS.items():  # here, because FastAPI drops what is null in an example
        components[name]["examples"] = examples
    schema["tags"] = _TAGS
    schema["components"]["securitySchemes"] = SECURITY_SCHEMES
    # None of them is needed where the server has no keys.
    schema["security"] = [{"bearer": []}, {"apiKey": []}, {}]


def _operation(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if is_open(path):
        operation["security"] = []
    else:
        for status, response in described(*((401, 500) if path == UNCOUNTED else _ANYWHERE)).items():
            responses.setdefault(str(status), response)
    if "requestBody" in operation:
        for status, response in described(400, 413).items():
            responses.setdefault(str(status), response)
    operation["responses"] = dict(sorted(responses.items()))
