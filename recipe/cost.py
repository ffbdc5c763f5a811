"""What a request costs, in samples that the network predicts, before anything is loaded or queued."""

from __future__ import annotations

from functools import cache
from itertools import islice

from recipe.facts import ModelFacts
from recipe.fields import Recipe
from recipe.schedulers import SCHEDULERS
from recipe.tiling import Canvas, shifts, tiles_by_region


def network_samples(recipe: Recipe, facts: ModelFacts) -> int:
    """Rows of all network calls together: each view once for every region that it touches, for every branch of the
    guidance, and for every call of the solver.

    Raises:
        ValueError: when the recipe does not fit the model (`Recipe.check_fits`).
    """
    canvas, steps, scheduler = Canvas.of(recipe, facts), recipe.num_inference_steps, SCHEDULERS[recipe.scheduler]
    scales = [recipe.guidance_scale, *(region.guidance_scale for region in recipe.regions)]

    @cache
    def samples(shift: tuple[int, int], guided: bool) -> int:
        return sum(
            tiles * (2 if guided and scales[region] > 1 and not facts.embeds_guidance else 1)
            for region, tiles in tiles_by_region(canvas.blocks(shift)).items()
        )

    return sum(
        scheduler.calls(step, steps) * samples(shift, recipe.guides_at(step))
        for step, shift in enumerate(islice(shifts(recipe), steps))
    )
