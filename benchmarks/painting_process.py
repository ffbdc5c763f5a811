"""A process that paints for `benchmarks.engine`: it loads models when they are first needed and keeps them."""

from __future__ import annotations

import copy
import multiprocessing
import time
from argparse import Namespace
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, Self

from benchmarks.architectures import random_stable_diffusion
from benchmarks.engine_details import after_last_step, unet_rates
from benchmarks.implementations import Case, Implementation, implementation
from benchmarks.results import progress
from engine import loading
from engine.batching import MicroBatches
from engine.families.stable_diffusion import StableDiffusion
from engine.speed.warmup import warm_up
from recipe.fields import Recipe
from recipe.models import find_model
from recipe.presets import PRESETS

PROMPT = "mountains in the morning, a lake, clear sky"
ARCHITECTURES = ("1.5", "2.1")


class NotPossible(Exception):
    """This machine cannot paint that; the message says why."""


class PaintingProcess:
    """The benchmark's side of a process that starts with the first question.

    The engine and its competitors get a process each: what the engine sets for a whole process must not serve them.
    """

    def __init__(self, model: str, width: int, options: Namespace, *, plain: bool) -> None:
        self._arguments = (model, width, options, plain)
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection:
            self._connection.close()
            self._process.join()

    def ask(self, question: str, case: Case) -> dict[str, Any]:
        """The answer of `Painter` to one of its questions.

        Raises:
            NotPossible: when this machine cannot paint `case`.
        """
        if self._connection is None:
            spawn = multiprocessing.get_context("spawn")
            self._connection, theirs = spawn.Pipe()
            self._process = spawn.Process(target=_serve, args=[theirs, *self._arguments], daemon=True)
            self._process.start()
            theirs.close()
        self._connection.send((question, case))
        try:
            answer = self._connection.recv()
        except EOFError:
            raise SystemExit(f"the process that paints ended while it was asked for {case.name}") from None
        if isinstance(answer, NotPossible):
            raise answer
        return dict(answer)


class Painter:
    """What the process does: it answers questions about cases."""

    def __init__(self, model: str, width: int, options: Namespace, *, plain: bool) -> None:
        self._name, self._width, self._options, self._plain = model, width, options, plain
        self._models: dict[str, StableDiffusion] = {}  # by dtype
        self._compiled: dict[str, StableDiffusion] = {}
        self._ready: dict[Case, Implementation] = {}

    def painting(self, case: Case) -> dict[str, Any]:
        """How long one painting took."""
        return self._implementation(case).painting()

    def peak(self, case: Case) -> dict[str, Any]:
        """How much memory it needs."""
        return {"peak": self._implementation(case).peak()}

    def details(self, case: Case) -> dict[str, Any]:
        """Two sentences: the UNet's speed by the size of its calls, and the time after the last step."""
        ready = self._implementation(case)
        recipe = replace(self._recipe(ready.model), **PRESETS["draft"].values(ready.model.facts))
        return {
            "unet": unet_rates(ready.model, case.view_batch_size),
            "after": after_last_step(ready.model, recipe),
        }

    def _implementation(self, case: Case) -> Implementation:
        """Ready to be measured: loaded, compiled, and called once."""
        if case not in self._ready:
            model = self._model(case)
            recipe = self._recipe(model)
            if case.preset:
                recipe = replace(recipe, **PRESETS[case.preset].values(model.facts))
            self._ready[case] = implementation(case, model, recipe)
            self._ready[case].one_step()
        return self._ready[case]

    def _model(self, case: Case) -> StableDiffusion:
        """Loaded; compiled if the case asks for it. A preset uses the model that is not compiled if that is all."""
        if case.dtype not in self._models:
            model = load(self._name, loading.default_device(), case.dtype, accelerated=not self._plain)
            self._models[case.dtype] = model if self._plain else warmed_up(model, case.view_batch_size, compiled=False)
        model = self._models[case.dtype]
        if not case.compiled:
            return model
        if case.dtype not in self._compiled:
            progress(f"compiling the UNet in {case.dtype}; this can take minutes")
            start = time.perf_counter()
            model = replace(model, unet=copy.deepcopy(model.unet))
            self._compiled[case.dtype] = warmed_up(model, case.view_batch_size, compiled=True)
            progress(f"compiled in {time.perf_counter() - start:.0f} s")
        if not self._compiled[case.dtype].is_compiled and not case.preset:
            raise NotPossible("the UNet cannot be compiled on this machine; the reason is in the log on stderr")
        return self._compiled[case.dtype]

    def _recipe(self, model: StableDiffusion) -> Recipe:
        """What every implementation paints."""
        return Recipe(
            prompt=PROMPT,
            width=self._width,
            height=model.facts.window_px,
            guidance_scale=model.spec.guidance_scale or model.facts.defaults.get("guidance_scale", 7.5),
            num_inference_steps=self._options.steps,
            seed=1,
        )


def warmed_up(model: StableDiffusion, view_batch_size: int, *, compiled: bool) -> StableDiffusion:
    """The model as a worker uses it."""
    ready = warm_up(model, MicroBatches(view_batch_size), compiled=compiled)
    assert isinstance(ready, StableDiffusion)
    return ready


def load(name: str, device: str, dtype: str, *, accelerated: bool) -> StableDiffusion:
    """An architecture with random weights for its name; else the built-in model or the model in a folder."""
    if name in ARCHITECTURES:
        return random_stable_diffusion(name, device, dtype, accelerated=accelerated)
    return loading.load_model(find_model(name), device=device, dtype=dtype, accelerated=accelerated)


def _serve(connection: Connection, model: str, width: int, options: Namespace, plain: bool) -> None:
    """The process: answer until the other side closes the connection."""
    painter = Painter(model, width, options, plain=plain)
    questions = {"painting": painter.painting, "peak": painter.peak, "details": painter.details}
    while True:
        try:
            question, case = connection.recv()
        except EOFError:
            return
        try:
            connection.send(questions[question](case))
        except NotPossible as reason:
            connection.send(reason)
