"""Every error answer is a problem document (RFC 9457). The kinds stand in `jobs.problems.PROBLEMS`."""

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

from jobs.board import KeptFull, QueueFull
from jobs.idempotency import KeyReused
from jobs.problems import PROBLEMS
from jobs.store import StoreError, StoreFull
from recipe.errors import RecipeError
from service.model_catalog import ModelPending

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# So that no request, whatever it holds, gets an answer larger than itself.
MOST_FAULTS_OF_ITEM = 10
MOST_FAULTS = 200
_MOST_IN_DETAIL = 20
_LONGEST_NAME = 100
_LONGEST_DETAIL = 1000


class FieldProblem(BaseModel):
    """One fault of one field."""

    pointer: str = Field(description="JSON Pointer (RFC 6901) to the field, as a URI fragment", examples=["#/width"])
    detail: str = Field(examples=["must be a multiple of 8, not 2050"])
    index: int | None = Field(None, description="Of a batch: which item, from 0")


class Problem(BaseModel):
    """Problem details for HTTP APIs (RFC 9457)."""

    type: str = Field(examples=[PROBLEMS["invalid-request"].urn])
    title: str = Field(examples=[PROBLEMS["invalid-request"].title])
    status: int = Field(examples=[PROBLEMS["invalid-request"].status])
    detail: str | None = Field(None, examples=["width: must be a multiple of 8, not 2050"])
    errors: list[FieldProblem] | None = Field(None, description="Every field at fault, where fields are")


class ProblemError(Exception):
    """Raised to answer a request with a problem. `kind` is a name in the table of problems."""

    def __init__(
        self,
        kind: str,
        detail: str | None = None,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
        title_values: Mapping[str, str] | None = None,
    ) -> None:
        known = PROBLEMS[kind]
        title = known.title.format(**(title_values or {}))
        super().__init__(title)
        self.headers = dict(headers or {})
        self.problem = Problem(
            type=known.urn, title=title, status=known.status, detail=detail, errors=list(errors) or None
        )


def problem_response(error: ProblemError) -> JSONResponse:
    """The HTTP response of a problem."""
    return JSONResponse(
        error.problem.model_dump(exclude_none=True),
        status_code=error.problem.status,
        media_type=MEDIA_TYPE,
        headers=error.headers,
    )


def invalid_request(errors: Sequence[FieldProblem]) -> ProblemError:
    """422 that names the invalid fields: the first `MOST_FAULTS` of them, and how many more there are."""
    named = [f"{error.pointer.removeprefix('#/')}: {error.detail}" for error in errors[:_MOST_IN_DETAIL]]
    if len(errors) > _MOST_IN_DETAIL:
        named.append(f"and {len(errors) - _MOST_IN_DETAIL} more faults")
    return ProblemError("invalid-request", "; ".join(named), errors=errors[:MOST_FAULTS])


def problem_of(error: Exception) -> ProblemError:  # noqa: PLR0911 - one return for each row of the table
    """The problem for an exception. Any exception that is not listed is a bug: its details are not shown to clients."""
    match error:
        case ProblemError():
            return error
        case RecipeError():
            return invalid_request(invalid_fields(error))
        case ModelPending():
            return ProblemError("model-pending", f"{error}. Nothing was accepted.", headers={"Retry-After": "30"})
        case RequestValidationError():
            return invalid_request([_parameter_problem(item) for item in error.errors()])
        case ClientDisconnect():  # the client is gone, so nobody reads this answer; it keeps a 500 out of the log
            return ProblemError("body-cut", "Nothing was accepted.")
        case KeyReused():
            reused = FieldProblem(pointer="#/Idempotency-Key", detail="belongs to another request (in the header)")
            return ProblemError("idempotency-key-reused", errors=[reused])
        case KeptFull():
            return ProblemError(
                "kept-full-for-key",
                "Delete jobs that have ended, or wait until they expire. Nothing was accepted.",
                headers={"Retry-After": str(round(error.retry_after))},
            )
        case QueueFull():
            return ProblemError(
                "queue-full-for-key" if error.own else "queue-full",
                f"As many {'of your ' if error.own else ''}jobs wait as this server lets wait."
                " Nothing was accepted; try again later.",
                headers={"Retry-After": str(max(1, round(error.retry_after)))},
            )
        case OutOfMemoryError() | StoreFull():
            kind = "image-store-full" if isinstance(error, StoreFull) else "queue-storage-full"
            return ProblemError(kind, "Nothing was accepted; try again later.", headers={"Retry-After": "30"})
        case RedisError() | StoreError() | TimeoutError():
            return ProblemError(
                "unavailable",
                "Nothing was changed; try again in a few seconds.",
                headers={"Retry-After": "5"},
                title_values={"service": "image store" if isinstance(error, StoreError) else "queue"},
            )
        case HTTPException():
            return _framework_problem(error)
        case _:
            return ProblemError("internal-error")


def install(app: FastAPI) -> None:
    """Make `app` answer every exception with a problem."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        problem = problem_of(error)
        if problem.problem.status == 405:
            problem.headers |= _allow_header(app, request.url.path)
        if problem.problem.status >= 500:
            log.error("%s: %s", type(error).__name__, error, exc_info=problem.problem.status == 500)
        return problem_response(problem)

    for kind in (
        ProblemError,
        RecipeError,
        ModelPending,
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


def _framework_problem(error: HTTPException) -> ProblemError:
    kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http-error")
    answer = ProblemError(kind, str(error.detail), headers=error.headers)
    answer.problem.status = error.status_code
    answer.problem.title = HTTPStatus(error.status_code).phrase
    return answer


def _allow_header(app: FastAPI, path: str) -> dict[str, str]:
    """`Allow` with every method of a path. Starlette's own lists only the methods of the first matching route."""
    for template, operations in app.openapi()["paths"].items():
        if compile_path(template)[0].match(path):
            methods = {method.upper() for method in operations} | ({"HEAD"} if "get" in operations else set())
            return {"Allow": ", ".join(sorted(methods))}
    return {}


def invalid_fields(error: ProblemError | RecipeError) -> list[FieldProblem]:
    """The invalid fields that an error names; empty when it is about something else."""
    if isinstance(error, ProblemError):
        return error.problem.errors or []
    return [FieldProblem(pointer=f"#/{fault.field}", detail=fault.detail) for fault in error.errors]


def body_problems(error: ValidationError) -> list[FieldProblem]:
    """What pydantic found wrong with a body: the first faults, and how many more there are."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    problems = [_body_problem(item) for item in faults[:MOST_FAULTS_OF_ITEM]]
    if len(faults) > MOST_FAULTS_OF_ITEM:
        more = f"and {len(faults) - MOST_FAULTS_OF_ITEM} more faults"
        problems.append(FieldProblem(pointer="#", detail=more))
    return problems


def pointer(*path: str | int) -> str:
    """A JSON Pointer as a URI fragment. Names that clients made up are cut."""
    parts = (str(part)[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1") for part in path)
    return "#" + "".join(f"/{part}" for part in parts)


def _parameter_problem(item: Mapping[str, object]) -> FieldProblem:
    """FastAPI's error for a path, query or header parameter."""
    source, *path = (str(part) for part in item["loc"])  # type: ignore[attr-defined]
    return FieldProblem(pointer=pointer(*path), detail=f"{item['msg']} (in the {source})")


def _body_problem(item: Mapping[str, Any]) -> FieldProblem:
    """One of pydantic's errors. Its `input` is left out because a client may send anything, of any size."""
    if item["type"] == "json_invalid":
        return FieldProblem(pointer="#", detail="it is not JSON")
    detail = "unknown field" if item["type"] == "extra_forbidden" else str(item["msg"])
    return FieldProblem(pointer=pointer(*item["loc"]), detail=detail[:_LONGEST_DETAIL])
