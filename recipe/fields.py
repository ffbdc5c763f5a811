"""Every field of a panorama request, once: its type, range, default and help.

The wire schema (`service.schemas`), the resolved input of a job, the flags of `python -m engine` and the recipe in a
PNG are made from this table. A new field is one attribute of `Recipe`, and what the engine does with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from recipe.errors import FieldError, RecipeError
from recipe.facts import ModelFacts, clip_skip_fault
from recipe.field import MAX_PROMPT_CHARS, Field, defaults_of, fields_of
from recipe.field import described_field as _of
from recipe.regions import MAX_REGIONS, Region, read_regions
from recipe.schedulers import SCHEDULERS

VIEW_WEIGHTS = ("uniform", "hann", "gaussian")
PROMPT_SYNTAXES = ("plain", "a1111")

# A seed survives JSON in every language: doubles hold integers exactly up to 2**53 - 1 (RFC 8259, section 6).
MAX_SEED = 2**53 - 1
# The length of the training schedule of every Stable Diffusion: more steps than that do not exist.
MAX_STEPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One panorama to paint, every default filled in. Sizes are pixels, `view_stride` is latent cells.

    Classifier-free guidance works in the steps between the shares `guidance_start` and `guidance_end` of all
    (arXiv 2404.07724), and its contrast is drawn back to the prompt's own by `guidance_rescale` (0 none, 1 wholly;
    arXiv 2305.08891, section 3.4). `shift_views` moves all views by a random distance each step (SpotDiffusion,
    arXiv 2407.15507), so that few views leave no seams.

    The defaults are the original's (MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113).

    Raises:
        RecipeError: on construction, naming every field that no model could paint.
    """

    prompt: str = _of(..., kind=str, nullable=False, max_length=MAX_PROMPT_CHARS, help="What the panorama shows")
    negative_prompt: str = _of(
        "", kind=str, nullable=False, max_length=MAX_PROMPT_CHARS, flag="negative", help="What it should not show"
    )
    width: int = _of(
        2048,
        kind=int,
        minimum=1,
        flag="W",
        help="Pixels; a multiple of the model's latent factor (8). null: four of the model's views",
    )
    height: int = _of(
        512,
        kind=int,
        minimum=1,
        flag="H",
        help="Pixels; a multiple of the model's latent factor (8). null: one of the model's views",
    )
    num_inference_steps: int = _of(
        50, kind=int, minimum=1, flag="steps", help="Denoising steps; null: the model's default"
    )
    guidance_scale: float = _of(
        7.5,
        kind=float,
        minimum=0,
        maximum=100,
        flag="guidance",
        help="Classifier-free guidance; null: the model's default",
    )
    seed: int = _of(
        0, kind=int, minimum=0, maximum=MAX_SEED, as_null=(-1,), help="null (or -1) draws one and returns it"
    )
    scheduler: str = _of("ddim", kind=str, choices=tuple(SCHEDULERS), help="null: the model's default")
    circular: bool = _of(
        False, kind=bool, nullable=False, help="The right edge continues at the left one (360 degrees)"
    )
    view_stride: int = _of(
        8, kind=int, minimum=1, flag="stride", help="Latent cells between views; null: the model's default"
    )
    view_weights: str = _of(
        "uniform",
        kind=str,
        choices=VIEW_WEIGHTS,
        flag="weights",
        help="How overlapping views are averaged; null: the model's default, or uniform to a stride of 16, else hann",
    )
    shift_views: bool = _of(
        False,
        kind=bool,
        since_first=False,
        help="Move all views by a random distance each step (SpotDiffusion); null: false",
    )
    guidance_rescale: float = _of(
        0.0,
        kind=float,
        since_first=False,
        minimum=0,
        maximum=1,
        help="How far guidance may not raise the contrast, from 0 to 1; null: 0, freely",
    )
    guidance_start: float = _of(
        0.0,
        kind=float,
        since_first=False,
        minimum=0,
        maximum=1,
        help="Share of the steps after which guidance begins; null: 0",
    )
    guidance_end: float = _of(
        1.0,
        kind=float,
        since_first=False,
        minimum=0,
        maximum=1,
        help="Share of the steps after which guidance ends; null: 1",
    )
    prompt_syntax: str = _of(
        "plain",
        kind=str,
        since_first=False,
        choices=PROMPT_SYNTAXES,
        help="How both prompts are read; null: plain. `plain` takes them as words and cuts them after 75 tokens."
        " `a1111` parses them as AUTOMATIC1111's web UI does: (word) has the weight 1.1, (word:1.4) 1.4, [word] 1/1.1;"
        " \\( is a parenthesis; BREAK begins a new chunk; embedding:name is a textual inversion of the model; and"
        " longer text is read in up to 8 chunks of 75 tokens",
    )
    clip_skip: int = _of(
        0,
        kind=int,
        since_first=False,
        minimum=0,
        help="Number of layers of the text encoder to skip at its end, as in diffusers (AUTOMATIC1111 counts one more);"
        " null: the model's default. With `plain` prompts it applies to prompt only, as in diffusers; with `a1111` to"
        " both",
    )
    regions: tuple[Region, ...] = _of(
        (),
        kind=Region,
        since_first=False,
        max_items=MAX_REGIONS,
        flag="region",
        help="Parts of the canvas with prompts of their own; null: none. `prompt` paints what no region covers",
    )
    region_feather: float = _of(
        0.0,
        kind=float,
        since_first=False,
        minimum=0,
        maximum=1,
        help="Width of the soft border of regions, a share of the canvas's height; null: 0, a hard border",
    )
    region_bootstrap: float = _of(
        0.0,
        kind=float,
        since_first=False,
        minimum=0,
        maximum=1,
        help="Share of the steps, from the first, in which each region is painted on a plain ground, so that its"
        " prompt fills it (MultiDiffusion, section 4.2); null: 0",
    )

    def __post_init__(self) -> None:
        faults = {name: spec.fault(getattr(self, name)) for name, spec in FIELDS.items()}
        if not faults["num_inference_steps"] and not faults["scheduler"]:
            faults["num_inference_steps"] = _steps_fault(self.scheduler, self.num_inference_steps)
        if not (faults["guidance_start"] or faults["guidance_end"]) and self.guidance_start > self.guidance_end:
            faults["guidance_end"] = f"must be at least guidance_start, {self.guidance_start:g}"
        if not faults["regions"]:
            faults |= self._faults_of_regions(lambda region: region.faults(circular=self.circular))
        _raise_for(faults)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From a job's input or a picture's recipe, which hold more than what a painting needs.

        Raises:
            RecipeError
        """
        given = {name: settings[name] for name in FIELDS if name in settings}
        return cls(**given | {"regions": read_regions(given.get("regions", ()))})

    def guides_at(self, step: int) -> bool:
        """Whether guidance works in a step, counted from 0 (arXiv 2404.07724)."""
        return self.guidance_start <= step / self.num_inference_steps < self.guidance_end

    def bootstraps_at(self, step: int) -> bool:
        """Whether regions are painted on plain grounds in a step, counted from 0."""
        return bool(self.regions) and step / self.num_inference_steps < self.region_bootstrap

    def check_fits(self, facts: ModelFacts) -> None:
        """Check the sizes against what the model can paint.

        Raises:
            RecipeError: for a side that is no multiple of the latent factor or smaller than one view, for a stride
                that leaves gaps between views, for a `clip_skip` that leaves no layer, and for a region without a cell.
        """
        stride_fault = None
        if self.view_stride > facts.window:
            stride_fault = (
                f"must be at most {facts.window}, the model's view in latent cells: a larger stride leaves gaps"
            )
        _raise_for(
            {
                "width": _size_fault(self.width, facts),
                "height": _size_fault(self.height, facts),
                "view_stride": stride_fault,
                "clip_skip": clip_skip_fault(self.clip_skip, facts.max_clip_skip),
                **self._faults_of_regions(lambda region: region.size_faults(self.width, self.height, facts)),
            }
        )

    def _faults_of_regions(self, faults_of: Callable[[Region], Mapping[str, str | None]]) -> dict[str, str | None]:
        """Faults by their paths, as `regions/1/right`."""
        return {
            f"regions/{index}/{name}": fault
            for index, region in enumerate(self.regions)
            for name, fault in faults_of(region).items()
        }


# The fields of `Recipe` by name, in their order.
FIELDS: Mapping[str, Field] = fields_of(Recipe)
# Their defaults by name; the required ones have none.
DEFAULTS: Mapping[str, Any] = defaults_of(Recipe)


def _steps_fault(scheduler: str, steps: int) -> str | None:
    if steps > MAX_STEPS:
        return f"must be at most {MAX_STEPS}, not {steps}"
    return SCHEDULERS[scheduler].steps_fault(steps)


def _raise_for(faults: Mapping[str, str | None]) -> None:
    errors = tuple(FieldError(name, fault) for name, fault in faults.items() if fault)
    if errors:
        raise RecipeError(errors)


def _size_fault(pixels: int, facts: ModelFacts) -> str | None:
    if pixels % facts.latent_factor:
        below = pixels - pixels % facts.latent_factor
        possible = sorted({max(size, facts.window_px) for size in (below, below + facts.latent_factor)})
        return f"must be a multiple of {facts.latent_factor}, not {pixels} (nearest: {' or '.join(map(str, possible))})"
    if pixels < facts.window_px:
        return f"must be at least {facts.window_px}, the model's own view; not {pixels}"
    return None
