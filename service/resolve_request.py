"""Turns a request into a job's input: defaults filled in, and checked against this server's limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

from recipe.cost import network_samples
from recipe.fields import Recipe
from service.dependencies import Services
from service.problems import FieldProblem, invalid_request
from service.schemas.requests import PanoramaRequest


class JobInput(NamedTuple):
    """A job's input, every parameter with its value and the model's name, and what the job costs."""

    values: dict[str, Any]
    network_samples: int


def resolve_input(services: Services, request: PanoramaRequest) -> JobInput:
    """Fill in every default and check the result.

    Raises:
        ProblemError, RecipeError: names each invalid field.
        ModelPending: while it is not known what the model can paint.
    """
    name = request.model or services.catalog.default
    if name not in services.catalog:
        known = ", ".join(services.catalog)
        raise invalid_request([FieldProblem(pointer="#/model", detail=f"must be one of {known}; not {name!r}")])
    if reason := services.catalog.refusal(name):
        detail = f"cannot be painted by this server: {reason}"
        raise invalid_request([FieldProblem(pointer="#/model", detail=detail)])
    recipe = request.resolve(services.catalog[name], max_width=services.settings.max_width)
    if over_limit := _over_limit(services, recipe):
        raise invalid_request(over_limit)
    # Only now: of a canvas within the other limits the cost is quickly counted.
    cost = network_samples(recipe, services.catalog[name].facts())
    if cost > services.settings.max_samples:
        raise invalid_request([_too_many_samples(services, recipe, cost)])
    return JobInput({**asdict(recipe), "model": name}, cost)


def resolve_webhook_url(services: Services, request: PanoramaRequest) -> str | None:
    """The normalised URL to call when the job has ended; None when the request asks for no call.

    Raises:
        ProblemError: when the URL itself shows that it must not be called.
    """
    if request.webhook_url is None:
        return None
    if services.signer is None:
        detail = "must be null: this server calls no webhooks"
        raise invalid_request([FieldProblem(pointer="#/webhook_url", detail=detail)])
    try:
        return services.targets.url(request.webhook_url)
    except ValueError as error:
        raise invalid_request([FieldProblem(pointer="#/webhook_url", detail=str(error))]) from error


def _over_limit(services: Services, recipe: Recipe) -> list[FieldProblem]:
    limits = services.settings
    width, height, steps = recipe.width, recipe.height, recipe.num_inference_steps
    problems = [
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
        problems.append(FieldProblem(pointer="#/num_inference_steps", detail=detail))
    return problems


def _too_many_samples(services: Services, recipe: Recipe, cost: int) -> FieldProblem:
    field, remedy = ("regions", "fewer or smaller regions, ") if recipe.regions else ("view_stride", "")
    detail = (
        f"the network would predict {cost} samples, and at most {services.settings.max_samples} on this server;"
        f" {remedy}a larger view_stride or fewer steps cost less"
    )
    return FieldProblem(pointer=f"#/{field}", detail=detail)
