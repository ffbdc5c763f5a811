"""`python -m engine.convert SOURCE`: pickled weights to `.safetensors` files beside them; the pickles stay.

torch reads them with `weights_only=True`, which builds tensors and plain values and runs no code of the file's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from recipe.errors import ModelError
from recipe.weights import PICKLES


def convert(path: Path) -> Path:
    """Write the `.safetensors` file of one pickle.

    Raises:
        ModelError: when it holds anything but tensors and plain values, or no tensor.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError ... by what is wrong
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} cannot be converted: it holds more than weights, or is damaged ({reason})") from error
    weights = _weights(content)
    if not weights:
        raise ModelError(f"{path} holds no weights")
    # transformers looks for `model.safetensors` where it wrote `pytorch_model.bin`.
    written = path.with_name(("model" if path.stem == "pytorch_model" else path.stem) + ".safetensors")
    save_file(weights, written, {"format": "pt"})
    return written


def _weights(content: Any) -> dict[str, torch.Tensor]:
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    # Copies: a safetensors file may not hold two names of one tensor.
    return {name: value.clone().contiguous() for name, value in content.items() if torch.is_tensor(value)}


def main(argv: list[str] | None = None) -> int:
    """The exit status is 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m engine.convert", description="Pickled weights to safetensors.")
    parser.add_argument("source", type=Path, help="a .ckpt, .pt or .bin file, or a folder in diffusers' layout")
    source = parser.parse_args(argv).source
    paths = [source] if source.is_file() else sorted(path for path in source.glob("*/*") if path.suffix in PICKLES)
    if not paths:
        print(f"python -m engine.convert: there is nothing to convert in {source}", file=sys.stderr)
        return 2
    try:
        for path in paths:
            print(convert(path))
    except ModelError as error:
        print(f"python -m engine.convert: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
