"""`panoramas generate`: one flag for each field of the request. A test compares them with the server's fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from panoramas.cli.common import ApiKey, Height, Out, Prompt, Seed, Url, Width, app, submit_and_save
from panoramas.client import DEFAULT_URL, Client

# Parameters of `generate` that are no fields of the request.
NOT_SENT = frozenset({"out", "url", "api_key"})


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter("must be a JSON object")
    return value


@app.command()
def generate(
    prompt: Prompt,
    out: Out = Path("panorama.png"),
    negative_prompt: Annotated[str, typer.Option("--negative", help="What it should not show.")] = "",
    width: Width = 2048,
    height: Height = 512,
    num_inference_steps: Annotated[
        int | None, typer.Option("--steps", help="Denoising steps; default: the model's.")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance", help="Classifier-free guidance; default: the model's.")
    ] = None,
    seed: Seed = None,
    model: Annotated[str | None, typer.Option(help="A name of GET /models; default: the server's.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="A name of GET /models; default: the model's.")] = None,
    circular: Annotated[bool, typer.Option("--circular", help="The right edge continues at the left one.")] = False,
    view_stride: Annotated[
        int | None, typer.Option("--stride", help="Latent cells between views; default: the model's.")
    ] = None,
    view_weights: Annotated[
        str | None, typer.Option("--weights", help="Weighting of overlapping views; default: the model's.")
    ] = None,
    shift_views: Annotated[
        bool | None, typer.Option("--shift-views/--no-shift-views", help="Move all views randomly at each step.")
    ] = None,
    guidance_rescale: Annotated[
        float | None, typer.Option(help="How much of the contrast added by guidance is removed, 0 to 1.")
    ] = None,
    guidance_start: Annotated[
        float | None, typer.Option(help="Share of the steps after which guidance begins.")
    ] = None,
    guidance_end: Annotated[float | None, typer.Option(help="Share of the steps after which guidance ends.")] = None,
    preset: Annotated[str | None, typer.Option(help="reference, quality, fast or draft.")] = None,
    priority: Annotated[str | None, typer.Option(help="interactive (default) or batch.")] = None,
    metadata: Annotated[
        Any, typer.Option(parser=_json_object, metavar="JSON", help="A JSON object that is returned with the job.")
    ] = None,
    webhook_url: Annotated[str | None, typer.Option(help="Address that is called when the job has ended.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Submit a panorama to a running service, show its progress, save the picture."""
    params = {
        name: value
        for name, value in locals().items()
        if name not in NOT_SENT and name != "prompt" and value is not None
    }
    with Client(url, api_key=api_key) as client:
        submit_and_save(client, prompt, out, params)
