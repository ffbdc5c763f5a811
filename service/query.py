"""Refuses query parameters that an operation does not have, rather than answer something else than was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from service.problems import MOST_FAULTS_OF_ITEM, FieldProblem, invalid_request, pointer


async def only_known_parameters(request: Request) -> None:
    """A dependency of every operation.

    Raises:
        ProblemError: names each parameter that is not known, or is given more than once.
    """
    if not request.scope["query_string"]:
        return
    known = frozenset(_names(request.scope["route"].dependant))
    names = Counter(name for name, _ in request.query_params.multi_items())
    faults: dict[str, str] = {}
    for name, count in names.items():
        if name not in known:
            faults[name] = f"unknown parameter; known: {', '.join(sorted(known)) or 'none'} (in the query)"
        elif count > 1:
            faults[name] = "is given more than once (in the query)"
        if len(faults) == MOST_FAULTS_OF_ITEM:
            break
    if faults:
        raise invalid_request([FieldProblem(pointer=pointer(name), detail=fault) for name, fault in faults.items()])


def _names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for inner in dependant.dependencies:
        yield from _names(inner)
