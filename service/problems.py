"""Errors as RFC 9457 problem details, everywhere and always; never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from redis.exceptions import OutOfMemoryError, RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path

from jobs.board import QueueFull
from jobs.idempotency import KeyReused
from jobs.store import StoreError, StoreFull
from recipe.errors import RecipeError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """One fault of one field."""

    pointer: str = Field(description="JSON Pointer (RFC 6901) to the field, as a URI fragment", examples=["#/width"])
    detail: str = Field(examples=["must be a multiple of 8, not 2050"])
    index: int | None = Field(None, description="Of a batch: which item, from 0")


class Problem(BaseModel):
    """Problem details for HTTP APIs (RFC 9457)."""

    type: str = Field(examples=["urn:panoramas:problem:invalid-request"])
    title: str = Field(examples=["The request is not valid"])
    status: int = Field(examples=[422])
    detail: str | None = Field(None, examples=["width: must be a multiple of 8, not 2050"])
    errors: list[FieldProblem] | None = Field(None, description="Every field at fault, where fields are")


class ProblemError(Exception):
    """Raised by a handler to answer with a problem."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str | None = None,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(title)
        self.headers = dict(headers or {})
        self.problem = Problem(
            type=f"urn:panoramas:problem:{kind}", title=title, status=status, detail=detail, errors=list(errors) or None
        )


def problem_response(error: ProblemError) -> JSONResponse:
    """The problem on the wire."""
    return JSONResponse(
        error.problem.model_dump(exclude_none=True),
        status_code=error.problem.status,
        media_type=MEDIA_TYPE,
        headers=error.headers,
    )


def invalid(errors: Sequence[FieldProblem]) -> ProblemError:
    """422 with every field at fault."""
    detail = "; ".join(f"{error.pointer.removeprefix('#/')}: {error.detail}" for error in errors)
    return ProblemError(422, "invalid-request", "The request is not valid", detail, errors=errors)


def translate(error: Exception) -> ProblemError:  # noqa: PLR0911 - one return a row of the table
    """The one table from exceptions to problems; what is not in it is a fault of ours and stays generic."""
    match error:
        case ProblemError():
            return error
        case RecipeError():
            return invalid(faults_of(error))
        case RequestValidationError():
            return invalid([_field_problem(item) for item in error.errors()])
        case ClientDisconnect():  # nobody hears it; it is no fault of ours
            return ProblemError(400, "body-cut", "The body broke off", "Nothing was accepted.")
        case KeyReused():
            fault = FieldProblem(pointer="#/Idempotency-Key", detail="belongs to another request (in the header)")
            return ProblemError(422, "idempotency-key-reused", "The Idempotency-Key was used before", errors=[fault])
        case QueueFull():
            return ProblemError(
                429,
                "queue-full-for-key" if error.own else "queue-full",
                "The queue is full",
                f"As many {'of your ' if error.own else ''}jobs wait as this server lets wait."
                " Nothing was accepted; try again later.",
                headers={"Retry-After": str(max(1, round(error.retry_after)))},
            )
        case OutOfMemoryError() | StoreFull():
            images = isinstance(error, StoreFull)
            kind, what = ("image-store", "image store") if images else ("queue-storage", "queue's storage")
            return ProblemError(
                507,
                f"{kind}-full",
                f"The {what} is full",
                "Nothing was accepted; try again later.",
                headers={"Retry-After": "30"},
            )
        case RedisError() | StoreError() | TimeoutError():
            what = "image store" if isinstance(error, StoreError) else "queue"
            return ProblemError(
                503,
                "unavailable",
                f"The {what} does not answer",
                "Nothing was changed; try again in a few seconds.",
                headers={"Retry-After": "5"},
            )
        case HTTPException():
            kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http-error")
            title = HTTPStatus(error.status_code).phrase
            return ProblemError(error.status_code, kind, title, str(error.detail), headers=error.headers)
        case _:
            return ProblemError(500, "internal-error", "The server met an unexpected error")


def install(app: FastAPI) -> None:
    """Answer every exception of `app` with a problem."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        translated = translate(error)
        if translated.problem.status == 405:
            translated.headers |= _allowed(app, request.url.path)
        if translated.problem.status >= 500:
            log.error("%s: %s", type(error).__name__, error, exc_info=translated.problem.status == 500)
        return problem_response(translated)

    for kind in (
        ProblemError,
        RecipeError,
        RequestValidationError,
        QueueFull,
        ClientDisconnect,
        KeyReused,
        RedisError,
        StoreError,
        TimeoutError,
        HTTPException,
    ):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Exception, answer)


def _allowed(app: FastAPI, path: str) -> dict[str, str]:
    """`Allow` with every method of a path; the framework knows those of the first handler that the path leads to."""
    for template, operations in app.openapi()["paths"].items():
        if compile_path(template)[0].match(path):
            return {"Allow": ", ".join(sorted(method.upper() for method in operations))}
    return {}


def faults_of(error: ProblemError | RecipeError) -> list[FieldProblem]:
    """The fields at fault, where it is about fields."""
    if isinstance(error, ProblemError):
        return error.problem.errors or []
    return [FieldProblem(pointer=f"#/{fault.field}", detail=fault.detail) for fault in error.errors]


def field_problems(error: ValidationError) -> list[FieldProblem]:
    """What is wrong with a body."""
    return [_body_problem(item) for item in error.errors(include_url=False, include_input=False)]


def _field_problem(item: Mapping[str, object]) -> FieldProblem:
    """FastAPI's error of a parameter."""
    source, *path = (str(part) for part in item["loc"])  # type: ignore[attr-defined]
    return FieldProblem(pointer="#/" + "/".join(path), detail=f"{item['msg']} (in the {source})")


def _body_problem(item: Mapping[str, Any]) -> FieldProblem:
    """pydantic's error in our words. Its `input` is left out: it may be anything of any size."""
    path = [str(part) for part in item["loc"]]
    if item["type"] == "json_invalid":
        return FieldProblem(pointer="#", detail="it is not JSON")
    detail = "unknown field" if item["type"] == "extra_forbidden" else str(item["msg"])
    escaped = [part.replace("~", "~0").replace("/", "~1") for part in path]
    return FieldProblem(pointer="#" + "".join(f"/{part}" for part in escaped), detail=detail)
