"""The fields of a request as the client knows them: their types, and the flags of `panoramas generate`.

A test compares them with the server's own table. This module imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Required, TypedDict


@dataclass(frozen=True, slots=True)
class Flag:
    """How `panoramas generate` offers a field. `name` is the flag where that is not the field's own name."""

    help: str
    name: str = ""


class Region(TypedDict, total=False):
    """A box of the canvas, in shares of its width and height, and what is painted there."""

    prompt: Required[str]
    left: float | None
    top: float | None
    right: float | None
    bottom: float | None
    negative_prompt: str | None
    guidance_scale: float | None
    weight: float | None


class PanoramaParams(TypedDict, total=False):
    """What `POST /panoramas` takes besides the prompt. A field left out gets the server's or the model's default."""

    negative_prompt: Annotated[str, Flag("What it should not show.", name="negative")]
    width: Annotated[int | None, Flag("Width in pixels; default: four of the model's views.")]
    height: Annotated[int | None, Flag("Height in pixels; default: one of the model's views.")]
    num_inference_steps: Annotated[int | None, Flag("Denoising steps; default: the model's.", name="steps")]
    guidance_scale: Annotated[float | None, Flag("Classifier-free guidance; default: the model's.", name="guidance")]
    seed: Annotated[int | None, Flag("Seed of the noise; default: a new one each time.")]
    model: Annotated[str | None, Flag("A name from GET /models; default: the server's.")]
    scheduler: Annotated[str | None, Flag("A name from GET /models; default: the model's.")]
    circular: Annotated[bool, Flag("The right edge continues at the left one.")]
    view_stride: Annotated[int | None, Flag("Latent cells between views; default: the model's.", name="stride")]
    view_weights: Annotated[
        str | None, Flag("How overlapping views are weighted: uniform, hann, gaussian.", name="weights")
    ]
    shift_views: Annotated[bool | None, Flag("Move all views by a random distance at each step.")]
    guidance_rescale: Annotated[float | None, Flag("How much of the contrast that guidance adds is removed, 0 to 1.")]
    guidance_start: Annotated[float | None, Flag("Share of the steps after which guidance begins.")]
    guidance_end: Annotated[float | None, Flag("Share of the steps after which guidance ends.")]
    prompt_syntax: Annotated[str | None, Flag("How prompts are read: plain (default) or a1111.")]
    clip_skip: Annotated[int | None, Flag("Last layers of the text encoder to skip.")]
    regions: Annotated[
        Sequence[Region] | None,
        Flag("A box of the canvas, in shares of its sides, and its prompt; repeatable. Or JSON.", name="region"),
    ]
    region_feather: Annotated[float | None, Flag("Width of regions' soft borders, a share of the height.")]
    region_bootstrap: Annotated[float | None, Flag("Share of the steps with a plain ground around each region.")]
    preset: Annotated[str | None, Flag("reference, quality, fast or draft.")]
    priority: Annotated[str, Flag("interactive (default) or batch.")]
    metadata: Annotated[Mapping[str, Any], Flag("A JSON object that is returned with the job.")]
    webhook_url: Annotated[str | None, Flag("Address that is called when the job has ended.")]


class PanoramaRequest(PanoramaParams):
    """One item of a batch."""

    prompt: str
