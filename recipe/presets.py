"""Named trades of speed for quality: what each fills in where a request leaves a parameter out. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recipe.facts import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One way to paint. `overlaps` is how many views cover a column: the stride is the model's view over it, or, where
    it is None, the original's 8 cells. A few-step model makes `few_steps` times its own number of steps.
    """

    description: str
    scheduler: str
    num_inference_steps: int
    overlaps: int | None
    view_weights: str
    few_steps: float
    guidance_end: float = 1.0
    shift_views: bool = False

    def values(self, facts: ModelFacts) -> dict[str, Any]:
        """Parameters of `Recipe` for a model of these facts."""
        scheduler, steps = self.scheduler, self.num_inference_steps
        if facts.few_steps:  # a distilled model is painted as it was distilled
            scheduler = facts.defaults["scheduler"]
            steps = max(1, round(facts.defaults["num_inference_steps"] * self.few_steps))
        return {
            "scheduler": scheduler,
            "num_inference_steps": steps,
            "view_stride": min(8, facts.window) if self.overlaps is None else facts.window // self.overlaps,
            "view_weights": self.view_weights,
            "guidance_rescale": 0.0,
            "guidance_start": 0.0,
            "guidance_end": 1.0 if facts.few_steps else self.guidance_end,
            "shift_views": self.shift_views,
        }


PRESETS: Mapping[str, Preset] = {
    "reference": Preset(
        description="The original's: DDIM, 50 steps, a view every 8 cells, plain means",
        scheduler="ddim",
        num_inference_steps=50,
        few_steps=1.0,
        overlaps=None,
        view_weights="uniform",
    ),
    "quality": Preset(
        description="DPM++ 2M, 30 steps, four views over every column, weighted to their centres",
        scheduler="dpmpp_2m",
        num_inference_steps=30,
        few_steps=2.0,
        overlaps=4,
        view_weights="hann",
    ),
    "fast": Preset(
        description="DPM++ 2M, 16 steps, two views over every column, guidance in the first 80 % of the steps",
        scheduler="dpmpp_2m",
        num_inference_steps=16,
        few_steps=1.0,
        overlaps=2,
        view_weights="hann",
        guidance_end=0.8,
    ),
    "draft": Preset(
        description="DPM++ 2M, 10 steps, one view over every column, shifted each step, guidance in the first 60 %",
        scheduler="dpmpp_2m",
        num_inference_steps=10,
        few_steps=0.5,
        overlaps=1,
        view_weights="hann",
        guidance_end=0.6,
        shift_views=True,
    ),
}
