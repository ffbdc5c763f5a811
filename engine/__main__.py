"""The original's command line: `python -m engine --prompt ... --sd_version 2.0 --H 512 --W 2048 --out out.png`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.catalog import BUILTIN, ModelSpec, find_model
from engine.errors import EngineError
from engine.params import SCHEDULERS, VIEW_WEIGHTS, PanoramaParams
from engine.presets import PRESETS


def parser() -> argparse.ArgumentParser:
    versions = [name for name in BUILTIN if name != "demo"]
    p = argparse.ArgumentParser(prog="python -m engine", description="Paint a panorama without any service.")
    p.add_argument("--prompt", required=True)
    p.add_argument("--negative", default="", help="what the picture should not show")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--sd_version", choices=versions, help="Stable Diffusion by version")
    which.add_argument("--model", help="'demo', a folder in diffusers' layout, or a hub repository owner/name")
    p.add_argument("--H", type=int, default=512, help="height in pixels")
    p.add_argument("--W", type=int, default=2048, help="width in pixels")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--steps", type=int, help="default: the model's own (Stable Diffusion 50)")
    p.add_argument("--guidance", type=float, help="default: the model's own (Stable Diffusion 7.5)")
    p.add_argument("--scheduler", choices=SCHEDULERS, help="default: the model's own (Stable Diffusion ddim)")
    p.add_argument("--stride", type=int, help="latent cells between views; default: the model's own (8)")
    p.add_argument(
        "--weights", choices=VIEW_WEIGHTS, help="how overlapping views are averaged; default: the model's own"
    )
    p.add_argument("--preset", choices=PRESETS, help="fills in what is left out, before the model's own defaults do")
    p.add_argument("--circular", action="store_true", help="the right edge continues at the left one")
    p.add_argument("--view-batch-size", type=int, default=16, help="views in one UNet call")
    p.add_argument("--device", help="default: cuda where there is one, else cpu")
    p.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    p.add_argument("--out", type=Path, default=Path("out.png"))
    return p


@dataclass
class StepLine:
    """A progress line on standard error, rewritten in place."""

    def __call__(self, step: int, total: int, _latents: object) -> None:
        print(f"\rstep {step}/{total}", end="\n" if step == total else "", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run one painting; the exit status is 0, or 2 with one line on standard error."""
    args = parser().parse_args(argv)
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # before torch: threads that spin starve each other on busy cores
    try:
        spec = find_model(args.model or args.sd_version or "2.0")
        params = _params(args, spec)
        params.check_fits(spec.geometry())
        _paint(args, spec, params)
    except EngineError as error:
        print(f"python -m engine: {error}", file=sys.stderr)
        return 2
    return 0


def _params(args: argparse.Namespace, spec: ModelSpec) -> PanoramaParams:
    given = {
        "num_inference_steps": args.steps,
        "guidance_scale": args.guidance,
        "scheduler": args.scheduler,
        "view_stride": args.stride,
        "view_weights": args.weights,
    }
    preset = PRESETS[args.preset].values(spec.geometry()) if args.preset else {}
    chosen = {name: value for name, value in given.items() if value is not None}
    return PanoramaParams(
        prompt=args.prompt,
        negative_prompt=args.negative,
        width=args.W,
        height=args.H,
        seed=args.seed,
        circular=args.circular,
        **{**spec.defaults, **preset, **chosen},
    )


def _paint(args: argparse.Namespace, spec: ModelSpec, params: PanoramaParams) -> None:
    # Only now: torch takes seconds to import, and a bad flag should not.
    from engine.batching import MicroBatches
    from engine.loading import default_device, load_model
    from engine.paint import paint
    from engine.picture import encode_png

    model = load_model(spec, device=args.device or default_device(), dtype=args.dtype)
    panorama = paint(model, params, batches=MicroBatches(args.view_batch_size), on_step=StepLine())
    for notice in panorama.notices:
        print(f"note: {notice.detail}", file=sys.stderr)
    args.out.write_bytes(encode_png(panorama.pixels, params, model=spec.name, revision=model.revision))


if __name__ == "__main__":
    sys.exit(main())
