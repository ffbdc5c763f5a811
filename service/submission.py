"""From what was asked for to what will be painted, within this server's limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from recipe.fields import Recipe
from service.dependencies import Services
from service.problems import FieldProblem, invalid
from service.schemas import PanoramaRequest


def resolved(services: Services, body: PanoramaRequest) -> dict[str, Any]:
    """Every parameter and the model's name: a job's input.

    Raises:
        ProblemError, RecipeError: naming each field at fault.
    """
    name = body.model or next(iter(services.catalog))
    if name not in services.catalog:
        known = ", ".join(services.catalog)
        raise invalid([FieldProblem(pointer="#/model", detail=f"must be one of {known}; not {name!r}")])
    params = body.resolve(services.catalog[name])
    if too_much := _too_much(services, params):
        raise invalid(too_much)
    return {**asdict(params), "model": name}


def webhook_target(services: Services, body: PanoramaRequest) -> str | None:
    """The address to call at the job's end, in its normal form; None where nobody wants to be called.

    Raises:
        ProblemError: where it may not be called, as far as its text shows.
    """
    if body.webhook_url is None:
        return None
    if services.signer is None:
        raise invalid([FieldProblem(pointer="#/webhook_url", detail="must be null: this server calls no webhooks")])
    try:
        return services.targets.url(body.webhook_url)
    except ValueError as error:
        raise invalid([FieldProblem(pointer="#/webhook_url", detail=str(error))]) from error


def _too_much(services: Services, params: Recipe) -> list[FieldProblem]:
    limits = services.settings
    width, height, steps = params.width, params.height, params.num_inference_steps
    faults = [
        FieldProblem(pointer=f"#/{field}", detail=f"must be at most {most} on this server, not {value}")
        for field, value, most in (
            ("width", width, limits.max_width),
            ("height", height, limits.max_height),
            ("num_inference_steps", steps, limits.max_steps),
        )
        if value > most
    ]
    cost = width * height * steps
    if cost > limits.max_pixel_steps:
        detail = (
            f"width x height x num_inference_steps must be at most {limits.max_pixel_steps} on this server, not {cost}"
        )
        faults.append(FieldProblem(pointer="#/num_inference_steps", detail=detail))
    return faults
