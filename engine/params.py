"""What to paint: a frozen, validated request in diffusers' own parameter names. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from engine.errors import FieldError, ParamsError

SCHEDULERS = (
    "ddim",
    "ddpm",
    "deis",
    "deis_karras",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_karras",
    "dpmpp_2s",
    "dpmpp_2s_karras",
    "dpmpp_3m",
    "dpmpp_sde",
    "dpmpp_sde_karras",
    "euler",
    "euler_a",
    "euler_karras",
    "heun",
    "heun_karras",
    "kdpm_2",
    "kdpm_2_a",
    "kdpm_2_karras",
    "lcm",
    "lms",
    "lms_karras",
    "pndm",
    "sa_solver",
    "tcd",
    "unipc",
    "unipc_karras",
)
VIEW_WEIGHTS = ("uniform", "hann", "gaussian")

MAX_PROMPT_CHARS = 2000
# A seed survives JSON in every language: doubles hold integers exactly up to 2**53 - 1 (RFC 8259, section 6).
MAX_SEED = 2**53 - 1
# The length of the training schedule of every Stable Diffusion: more steps than that do not exist.
MAX_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a model's configuration says of sizes.

    `window` is the native view in latent cells (UNet `sample_size`), `latent_factor` the pixels a latent cell stands
    for along each axis (2 ** (VAE levels - 1)).
    """

    window: int = 64
    latent_factor: int = 8

    @property
    def window_px(self) -> int:
        """Side of one view in pixels: the smallest canvas along either axis."""
        return self.window * self.latent_factor


@dataclass(frozen=True, slots=True, kw_only=True)
class PanoramaParams:
    """One panorama to paint. Sizes are pixels, `view_stride` is latent cells.

    Classifier-free guidance works in the steps between the shares `guidance_start` and `guidance_end` of all, and its
    contrast is drawn back to the prompt's own by `guidance_rescale` (0 none, 1 wholly; arXiv 2305.08891, section 3.4).
    `shift_views` moves all views by a random distance each step (SpotDiffusion, arXiv 2407.15507), so that few views
    leave no seams.

    The defaults are the original's (MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113).

    Raises:
        ParamsError: on construction, naming every field that no model could paint.
    """

    prompt: str
    negative_prompt: str = ""
    width: int = 2048
    height: int = 512
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    seed: int = 0
    scheduler: str = "ddim"
    view_stride: int = 8
    view_weights: str = "uniform"
    circular: bool = False
    guidance_rescale: float = 0.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    shift_views: bool = False

    def __post_init__(self) -> None:
        checks = {
            "prompt": _text_fault(self.prompt, required=True),
            "negative_prompt": _text_fault(self.negative_prompt, required=False),
            "width": _range_fault(self.width, 1, None),
            "height": _range_fault(self.height, 1, None),
            "num_inference_steps": _range_fault(self.num_inference_steps, 1, MAX_STEPS),
            "guidance_scale": _guidance_fault(self.guidance_scale),
            "seed": _range_fault(self.seed, 0, MAX_SEED),
            "scheduler": _choice_fault(self.scheduler, SCHEDULERS),
            "view_stride": _range_fault(self.view_stride, 1, None),
            "view_weights": _choice_fault(self.view_weights, VIEW_WEIGHTS),
            "guidance_rescale": _share_fault(self.guidance_rescale),
            "guidance_start": _share_fault(self.guidance_start),
            "guidance_end": _share_fault(self.guidance_end),
        }
        if not (checks["guidance_start"] or checks["guidance_end"]) and self.guidance_start > self.guidance_end:
            checks["guidance_end"] = f"must be at least guidance_start, {self.guidance_start:g}"
        _raise_for(checks)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From a job's input or a recipe, which hold more than what a painting needs.

        Raises:
            ParamsError
        """
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    def check_fits(self, geometry: Geometry) -> None:
        """Check the sizes against a model's geometry.

        Raises:
            ParamsError: for a side that is no multiple of the latent factor or smaller than one view, and for a
                stride that leaves gaps between views.
        """
        stride_fault = None
        if self.view_stride > geometry.window:
            stride_fault = (
                f"must be at most {geometry.window}, the model's view in latent cells: a larger stride leaves gaps"
            )
        _raise_for(
            {
                "width": _size_fault(self.width, geometry),
                "height": _size_fault(self.height, geometry),
                "view_stride": stride_fault,
            }
        )


def _raise_for(checks: dict[str, str | None]) -> None:
    errors = tuple(FieldError(field, fault) for field, fault in checks.items() if fault)
    if errors:
        raise ParamsError(errors)


def _text_fault(text: str, *, required: bool) -> str | None:
    if required and not text.strip():
        return "must not be empty"
    if len(text) > MAX_PROMPT_CHARS:
        return f"must be at most {MAX_PROMPT_CHARS} characters, not {len(text)}"
    return None


def _range_fault(value: int, low: int, high: int | None) -> str | None:
    if value < low:
        return f"must be at least {low}, not {value}"
    if high is not None and value > high:
        return f"must be at most {high}, not {value}"
    return None


def _guidance_fault(value: float) -> str | None:
    if not math.isfinite(value):
        return "must be a finite number"
    if not 0 <= value <= 100:
        return f"must be between 0 and 100, not {value:g}"
    return None


def _share_fault(value: float) -> str | None:
    return None if 0 <= value <= 1 else f"must be between 0 and 1, not {value:g}"


def _choice_fault(value: str, choices: tuple[str, ...]) -> str | None:
    return None if value in choices else f"must be one of {', '.join(choices)}; not {value!r}"


def _size_fault(pixels: int, geometry: Geometry) -> str | None:
    if pixels % geometry.latent_factor:
        below = pixels - pixels % geometry.latent_factor
        return (
            f"must be a multiple of {geometry.latent_factor}, not {pixels}"
            f" (nearest: {max(below, geometry.window_px)} or {max(below + geometry.latent_factor, geometry.window_px)})"
        )
    if pixels < geometry.window_px:
        return f"must be at least {geometry.window_px}, the model's own view; not {pixels}"
    return None
