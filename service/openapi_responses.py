"""Parts of the OpenAPI document that describe responses: problems, headers and files."""

from __future__ import annotations

from typing import Any

from service.openapi_examples import PROBLEM_EXAMPLES
from service.problems import MEDIA_TYPE

Responses = dict[int | str, dict[str, Any]]

_MEANINGS = {
    400: "The body broke off",
    401: "No API key, or one that is not known",
    404: "There is no such thing, or it is not yours",
    406: "The image cannot be had in a form that `Accept` takes",
    409: "Not in this state (yet); `Retry-After` says when to ask again, where asking again helps",
    410: "It has expired or was deleted",
    413: "The body is larger than the server takes",
    415: "A body of this type is not understood",
    416: "The range lies outside the image",
    422: "A field is not valid; `errors` names it",
    429: "The queue is full or too much was asked; `Retry-After` says when to try again",
    500: "A fault of the server",
    503: "The queue or the image store does not answer; `Retry-After` says when to try again",
    507: "The queue's storage is full",
}
_RETRIED = {
    "Retry-After": {
        "description": "Seconds until it is worth asking again",
        "schema": {"type": "integer", "minimum": 1},
    }
}


def problem_responses(*statuses: int) -> Responses:
    """The problems that an operation may answer with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": schema, "example": PROBLEM_EXAMPLES[status]}},
            **({"headers": _RETRIED} if status in (409, 429, 503, 507) else {}),
        }
        for status in statuses
    }


def response_header(description: str, kind: str = "string") -> dict[str, Any]:
    """One response header."""
    return {"description": description, "schema": {"type": kind}}


def file_response(media_type: str, description: str, **headers: dict[str, Any]) -> dict[str, Any]:
    """A response whose body is a file."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {"description": description, "content": content, "headers": headers}


NOT_MODIFIED: Responses = {304: {"description": "Not modified: the client's copy is good"}}
