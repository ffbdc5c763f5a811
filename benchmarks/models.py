"""`python -m benchmarks.models [--schedulers] [--out FILE]`: kinds of models beside diffusers' own pipelines.

Prints the table of `docs/models.md`: the relative RMS of the latents of one view and the largest difference of a pixel,
or the sentence with which the kind is refused. With `--schedulers`, every scheduler in every count of steps instead.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from engine.loading import load_model
from engine.schedulers import make_scheduler
from recipe.errors import ModelError, RecipeError
from recipe.models import find_model
from recipe.schedulers import SCHEDULERS
from testkit.model_kinds import PAINTED, REFUSED, Kind
from testkit.parity import difference_from_diffusers
from testkit.quirky import build

STEPS = (1, 2, 4, 8, 20, 50, 150, 200)
_BETAS = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "clip_sample": False,
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "SD 1.5": _BETAS,
    "2.1-v": {**_BETAS, "prediction_type": "v_prediction"},
    "SDXL": {**_BETAS, "timestep_spacing": "leading"},
    "Turbo": {**_BETAS, "timestep_spacing": "trailing"},
    "cosine": {**_BETAS, "beta_schedule": "squaredcos_cap_v2"},
}


def kinds() -> Iterator[str]:
    """Rows of the table of kinds, each as soon as it is measured."""
    yield "| kind | what is special | beside diffusers at one view |"
    yield "|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate((*PAINTED, *REFUSED)):
            built = build(Path(folder) / str(number), *kind.changes, xl=kind.xl)
            yield f"| {kind.name} | {kind.special} | {_outcome(kind, built)} |"


def _outcome(kind: Kind, folder: Path) -> str:
    if kind.refused:
        try:
            load_model(find_model(str(folder)), device="cpu")
        except ModelError as error:
            return "refused: " + str(error).replace(str(folder), "MODEL").replace("\n", " ")
        return "**loaded, and should not**"
    latents, pixels = difference_from_diffusers(folder, kind.request)
    return f"RMS {latents:.0e}, pixels {pixels}"


def schedulers() -> Iterator[str]:
    """Rows of the table of schedulers: the timestep at which each begins, or why it is refused."""
    yield f"| scheduler | {' | '.join(f'{name}, {steps}' for name in SCHEDULES for steps in STEPS)} |"
    yield "|---" * (1 + len(SCHEDULES) * len(STEPS)) + "|"
    for name in SCHEDULERS:
        cells = [beginning(name, config, steps) for config in SCHEDULES.values() for steps in STEPS]
        yield f"| {name} | {' | '.join(cells)} |"


def beginning(name: str, config: dict[str, Any], steps: int) -> str:
    """The first timestep of a scheduler that has been run to its end on a made-up prediction, or why not."""
    try:
        scheduler = make_scheduler(name, config, steps)
    except RecipeError:
        return "refused"
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    canvas = torch.randn(1, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(canvas, timestep)
        prediction = scaled * (0.9 if config.get("prediction_type") != "v_prediction" else -0.3)
        canvas = scheduler.step(prediction, timestep, canvas, return_dict=False, **options)[0]
    return f"{float(scheduler.timesteps[0]):.0f}" if bool(canvas.isfinite().all()) else "not finite"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--schedulers", action="store_true", help="the table of schedulers and counts of steps")
    parser.add_argument("--out", type=Path, help="a file to write the table to as well")
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}", file=sys.stderr)
    rows = []
    for row in schedulers() if options.schedulers else kinds():
        print(row, flush=True)
        rows.append(row)
    if options.out:
        options.out.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
