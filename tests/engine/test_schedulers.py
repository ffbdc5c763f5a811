"""Every scheduler in every count of steps begins at pure noise and arrives at finite latents, or is refused."""

from __future__ import annotations

import pytest
import torch

from benchmarks.models import SCHEDULES, STEPS, beginning
from engine.schedulers import make_scheduler, solver_steps
from recipe.errors import RecipeError
from recipe.fields import Recipe
from recipe.schedulers import SCHEDULERS, name_of

COUNTS = [steps for steps in STEPS if steps <= 20]


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_few_steps_are_painted_from_the_last_level_or_refused(scheduler: str, schedule: str) -> None:
    for steps in COUNTS:
        assert beginning(scheduler, SCHEDULES[schedule], steps) != "not finite"


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_count_of_steps_begins_at_noise_and_is_the_count_that_was_asked_for(scheduler: str) -> None:
    for config in SCHEDULES.values():
        for steps in (*STEPS, 1000):
            if SCHEDULERS[scheduler].steps_fault(steps):
                continue
            made = make_scheduler(scheduler, config, steps)
            assert 900 <= float(made.timesteps[0]) < 1000
            assert solver_steps(made)[-1] == steps - 1


@pytest.mark.parametrize("scheduler", ["lcm", "tcd"])
def test_what_a_solver_cannot_do_is_refused_before_anything_is_queued(scheduler: str) -> None:
    Recipe(prompt="a", scheduler=scheduler, num_inference_steps=50)
    with pytest.raises(RecipeError) as refused:
        Recipe(prompt="a", scheduler=scheduler, num_inference_steps=51)
    assert refused.value.errors[0].field == "num_inference_steps"
    with pytest.raises(RecipeError):
        make_scheduler(scheduler, SCHEDULES["SD 1.5"], 51)


def test_a_usual_count_of_steps_is_spaced_as_the_model_says() -> None:
    assert make_scheduler("ddim", SCHEDULES["SD 1.5"], 50).timesteps[0] == 981
    assert make_scheduler("ddim", SCHEDULES["Turbo"], 50).timesteps[0] == 999


def test_both_calls_of_a_second_order_step_are_one_step() -> None:
    assert solver_steps(make_scheduler("heun", SCHEDULES["SD 1.5"], 3)) == [0, 0, 1, 1, 2]
    assert solver_steps(make_scheduler("pndm", SCHEDULES["SD 1.5"], 3)) == [0, 0, 1, 2]
    assert solver_steps(make_scheduler("euler", SCHEDULES["SD 1.5"], 3)) == [0, 1, 2]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_models_own_scheduler_is_known_by_its_name(name: str) -> None:
    scheduler = SCHEDULERS[name]
    found = name_of(scheduler.class_name, scheduler.options)
    assert found is not None
    assert SCHEDULERS[found].class_name == scheduler.class_name
    karras = {bool(SCHEDULERS[each].options.get("use_karras_sigmas")) for each in (name, found)}
    assert len(karras) == 1
    assert name_of("EDMEulerScheduler", {}) is None


def test_spacing_in_the_models_configuration_is_not_taken_for_a_schedulers_name() -> None:
    config = {**SCHEDULES["SD 1.5"], "use_karras_sigmas": True}
    plain, karras = make_scheduler("euler", config, 20), make_scheduler("euler_karras", config, 20)
    assert not torch.equal(plain.sigmas, karras.sigmas)
    assert torch.equal(plain.sigmas, make_scheduler("euler", SCHEDULES["SD 1.5"], 20).sigmas)
