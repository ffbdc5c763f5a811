"""The original's command line: `python -m engine --prompt ... --sd_version 2.0 --H 512 --W 2048 --out out.png`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.errors import PaintError
from recipe.field import Field
from recipe.fields import Recipe
from recipe.models import BUILTIN, ModelSpec, find_model
from recipe.regions import parse_region
from recipe.request import REQUEST_FIELDS, resolve


def parser() -> argparse.ArgumentParser:
    versions = [name for name in BUILTIN if name != "demo"]
    p = argparse.ArgumentParser(prog="python -m engine", description="Paint a panorama without any service.")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--sd_version", choices=versions, help="Stable Diffusion by version")
    which.add_argument(
        "--model", help="'demo', a folder in diffusers' layout, a .safetensors file, or a hub repository owner/name"
    )
    p.add_argument(
        "--request", type=_request, metavar="FILE", help="JSON as POST /panoramas takes it; flags given beside it win"
    )
    for name, spec in REQUEST_FIELDS.items():
        if name != "model":
            _add_flag(p, name, spec)
    p.add_argument("--view-batch-size", type=int, default=16, help="views in one UNet call")
    p.add_argument("--device", help="default: cuda where there is one, else cpu")
    p.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    p.add_argument("--out", type=Path, default=Path("out.png"))
    return p


_REGION_HELP = (
    "A box of the canvas, in shares of its width and height, and its own prompt; may be given more than once. Or a JSON"
    " object with any field of a region"
)


def _add_flag(p: argparse.ArgumentParser, name: str, spec: Field) -> None:
    """A field of the request as a flag; what is not given is None, and the model's own default holds."""
    flag = f"--{spec.flag or name}"
    if name == "regions":
        metavar = "LEFT,TOP,RIGHT,BOTTOM:PROMPT"
        p.add_argument(flag, dest=name, action="append", type=_region, metavar=metavar, help=_REGION_HELP)
    elif spec.kind is bool:
        p.add_argument(flag, dest=name, action="store_true", default=None, help=spec.help)
    else:
        choices = spec.choices or None
        p.add_argument(flag, dest=name, type=spec.kind, choices=choices, help=spec.help)


# Fields of a request that say nothing of the picture.
_OF_THE_SERVICE = frozenset({"priority", "metadata", "webhook_url"})


def _request(path: str) -> dict[str, Any]:
    try:
        request = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error
    if not isinstance(request, dict):
        raise argparse.ArgumentTypeError(f"{path}: must be a JSON object")
    if unknown := sorted(request.keys() - REQUEST_FIELDS.keys() - _OF_THE_SERVICE):
        raise argparse.ArgumentTypeError(f"{path}: unknown fields: {', '.join(unknown)}")
    faults = ((name, REQUEST_FIELDS[name].type_fault(request[name])) for name in request if name in REQUEST_FIELDS)
    if wrong := [f"{name}: {fault}" for name, fault in faults if fault]:
        raise argparse.ArgumentTypeError(f"{path}: {'; '.join(wrong)}")
    return request


def _region(text: str) -> dict[str, Any]:
    try:
        return parse_region(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@dataclass
class StepLine:
    """A progress line on standard error, rewritten in place."""

    def __call__(self, step: int, total: int, _latents: object) -> None:
        print(f"\rstep {step}/{total}", end="\n" if step == total else "", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run one painting; the exit status is 0, or 2 with one line on standard error."""
    arguments = parser()
    args = arguments.parse_args(argv)
    request = args.request or {}
    given = {**request, **{name: value for name, value in vars(args).items() if value is not None}}
    if given.get("prompt") is None:
        arguments.error("--prompt, or --request with a prompt, is required")
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # before torch: threads that spin starve each other on busy cores
    try:
        spec = find_model(args.model or args.sd_version or request.get("model") or "2.0")
        params = resolve({"seed": 0, **given}, spec)
        _paint(args, spec, params)
    except PaintError as error:
        print(f"python -m engine: {error}", file=sys.stderr)
        return 2
    return 0


def _paint(args: argparse.Namespace, spec: ModelSpec, params: Recipe) -> None:
    # Only now: torch takes seconds to import, and a bad flag should not.
    from engine.batching import MicroBatches
    from engine.loading import default_device, load_model
    from engine.paint import paint
    from engine.picture import encode_png, provenance

    model = load_model(spec, device=args.device or default_device(), dtype=args.dtype)
    panorama = paint(model, params, batches=MicroBatches(args.view_batch_size), on_step=StepLine())
    for notice in panorama.notices:
        print(f"note: {notice.detail}", file=sys.stderr)
    made_with = provenance(str(model.dtype).removeprefix("torch."), model.device.type)
    png = encode_png(panorama.pixels, params, model=spec.name, revision=model.revision, made_with=made_with)
    args.out.write_bytes(png)


if __name__ == "__main__":
    sys.exit(main())
