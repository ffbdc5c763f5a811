"""`python -m benchmarks.engine`: the article's loop, diffusers' panorama pipeline and this engine, side by side.

All paint the same request with the same weights, in turn, several rounds. The table has medians; each row is printed
when its last painting is done, and stderr shows every painting. Without a GPU the demo model is painted; with one,
Stable Diffusion 1.5 and 2.1 as architectures with random weights, which is enough to measure speed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack

import torch

from benchmarks import results
from benchmarks.implementations import ALL_VIEWS, ARTICLE, DIFFUSERS, ENGINE, Case, Row, row_of
from benchmarks.painting_process import NotPossible, PaintingProcess
from benchmarks.results import Results
from engine.loading import default_device
from recipe.presets import PRESETS

HEADER = """\
| median | s | ms a step | article's / this | text, s | UNet, s | VAE, s | peak MiB |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """The command line."""
    on_gpu = default_device() == "cuda"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument(
        "--peer-steps",
        type=int,
        help="steps that the article's loop and diffusers make; the time of the others is extrapolated at the median",
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[2048, 4096] if on_gpu else [2048], help="px")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["1.5", "2.1"] if on_gpu else ["demo"],
        help="1.5 and 2.1 have random weights; else a built-in model or a folder",
    )
    parser.add_argument("--dtypes", nargs="+", default=["float16", "bfloat16"] if on_gpu else ["float32", "bfloat16"])
    parser.add_argument(
        "--presets", nargs="*", choices=[*PRESETS], default=[name for name in PRESETS if name != "reference"]
    )
    parser.add_argument("--view-batch-size", type=int, default=16)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    results.add_option(parser)
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if on_gpu else results.processor()
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    options.dtypes = [dtype for dtype in options.dtypes if is_worth_measuring(dtype, on_gpu=on_gpu)]
    for name in options.models:
        for width in options.widths:
            compare(name, width, options, device)


def is_worth_measuring(dtype: str, *, on_gpu: bool) -> bool:
    """Whether the processor computes in `dtype`; says so if it does not."""
    if on_gpu:
        possible = dtype != "bfloat16" or torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # What oneDNN does not support on a CPU goes to kernels of torch's that are more than ten times slower.
        checks = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
        supported = getattr(torch.ops.mkldnn, checks[dtype], lambda: False) if dtype in checks else lambda: True
        possible = bool(supported())
    if not possible:
        print(f"{dtype} is not measured: this processor has no instructions for it")
    return possible


def cases(options: argparse.Namespace, *, on_gpu: bool) -> Iterator[Case]:
    """The rows, in the order in which they paint. Presets are painted in the last dtype, which is the fastest.

    On a GPU diffusers is also measured in its own memory format.
    """
    few = options.peer_steps or options.steps
    for dtype in options.dtypes:
        yield Case(ARTICLE, dtype, 1, few, options.steps)
        for size in (1, 8, ALL_VIEWS):
            yield Case(DIFFUSERS, dtype, size, few, options.steps)
        if on_gpu:
            yield Case(DIFFUSERS, dtype, 8, few, options.steps, channels_last=False)
    size = options.view_batch_size
    for dtype in options.dtypes:
        yield Case(ENGINE, dtype, size, options.steps, options.steps)
    if options.dtypes:
        best = options.dtypes[-1]
        if options.compile:
            yield Case(ENGINE, best, size, options.steps, options.steps, compiled=True)
        for name in options.presets:
            count = PRESETS[name].num_inference_steps
            yield Case(ENGINE, best, size, count, count, compiled=options.compile, preset=name)


def compare(name: str, width: int, options: argparse.Namespace, device: str) -> None:
    """Print the table of one model at one width."""
    rows = list(cases(options, on_gpu=default_device() == "cuda"))
    kept = Results(
        options.results,
        total=len(rows) * (options.rounds + options.memory) + bool(rows),
        benchmark="engine",
        model=name,
        width=width,
        steps=[options.steps, options.peer_steps],
        view_batch_size=options.view_batch_size,
        versions=[torch.__version__, device, torch.get_num_threads()],
    )
    print(f"\n{name}, {width} px wide, {options.steps} steps, {options.rounds} rounds\n\n{HEADER}", flush=True)
    with ExitStack() as stack:
        plain, engine = (
            stack.enter_context(PaintingProcess(name, width, options, plain=plain)) for plain in (True, False)
        )
        Comparison(kept, plain, engine, options).run(rows)


class Comparison:
    """The rounds of one table."""

    def __init__(
        self, kept: Results, plain: PaintingProcess, engine: PaintingProcess, options: argparse.Namespace
    ) -> None:
        self._results, self._plain, self._engine = kept, plain, engine
        self._rounds, self._memory = options.rounds, options.memory
        self._first: Row | None = None

    def run(self, rows: list[Case]) -> None:
        """Every case paints once a round. A row is printed in the last round."""
        paintings: dict[Case, list[results.Values]] = {case: [] for case in rows}
        for number in range(1, self._rounds + 1):
            for case in list(paintings):
                try:
                    paintings[case].append(self._measure("painting", case, f"{case.name}, round {number}"))
                except NotPossible as reason:
                    del paintings[case]
                    self._results.skip(self._rounds + self._memory)
                    print(f"| {case.name} | not measured: {reason} | | | | | | |", flush=True)
                    continue
                if number == self._rounds:
                    self._print_row(case, paintings[case])
        if painted := [case for case in paintings if case.implementation == ENGINE]:
            details = self._measure("details", painted[-1], f"{painted[-1].name}, details")
            print(f"\n{details['unet']}\n{details['after']}", flush=True)

    def _measure(self, question: str, case: Case, name: str) -> results.Values:
        process = self._engine if case.implementation == ENGINE else self._plain
        return self._results.measure(name, lambda: process.ask(question, case))

    def _print_row(self, case: Case, paintings: list[results.Values]) -> None:
        peak = self._measure("peak", case, f"{case.name}, memory")["peak"] if self._memory else None
        row = row_of(case, paintings, peak)
        self._first = self._first or row  # the article's loop, unless it was not possible
        print(line(row, self._first), flush=True)


def line(row: Row, first: Row) -> str:
    """A row in Markdown; `first` is what its time is compared with."""
    phases = [f"{row.phases[name]:.2f}" if row.phases else "" for name in ("encode", "denoise", "decode")]
    peak = "" if row.peak is None else f"{row.peak:.0f}"
    ratio = f"{first.whole / row.whole:.2f}"
    return f"| {' | '.join([row.name, f'{row.whole:.2f}', f'{1000 * row.step:.0f}', ratio, *phases, peak])} |"


if __name__ == "__main__":
    main()
