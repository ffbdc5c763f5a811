"""`python -m engine`: the article's command line, and requests as the service takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.__main__ import main

REQUEST = {"prompt": "hills", "width": 256, "height": 128, "num_inference_steps": 2, "seed": 7, "guidance_scale": 5}


def painted(out: Path, *arguments: str) -> np.ndarray:
    assert main([*arguments, "--out", str(out)]) == 0
    with Image.open(out) as picture:
        return np.asarray(picture)


def test_a_request_paints_what_its_flags_would_and_flags_beside_it_win(tiny_model: Path, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    beside = {"priority": "batch", "metadata": {"a": 1}, "webhook_url": None, "negative_prompt": None}
    request.write_text(json.dumps({**REQUEST, **beside, "model": str(tiny_model)}), encoding="utf-8-sig")
    flags = "--prompt hills --W 256 --H 128 --steps 2 --seed 7 --guidance 5".split()
    by_flags = painted(tmp_path / "flags.png", "--model", str(tiny_model), *flags)
    assert (painted(tmp_path / "request.png", "--request", str(request)) == by_flags).all()
    assert (painted(tmp_path / "other.png", "--request", str(request), "--seed", "8") != by_flags).any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promt": "a"}, "unknown fields: promt"),
        ({"width": "256"}, "width: must be of type int, not str"),
        ({"seed": True}, "seed: must be of type int, not bool"),
        ({"preset": "best"}, "preset: must be one of"),
        ({"regions": {}}, "regions: must be a list of objects"),
        ({"regions": [{"prompt": "a", "left": "0"}]}, "0: left: must be of type float, not str"),
        ({"regions": [{"prompt": "a", "box": []}]}, "0: box: unknown field"),
        ({"prompt": None}, "--prompt, or --request with a prompt, is required"),
        ([], "must be a JSON object"),
    ],
)
def test_a_request_that_says_something_else_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: Any, said: str
) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({**REQUEST, **changes} if isinstance(changes, dict) else changes))
    with pytest.raises(SystemExit) as stopped:
        main(["--request", str(request)])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_size_that_the_model_cannot_paint_is_one_line(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(tiny_model), "--prompt", "a", "--W", "130", "--out", str(tmp_path / "a.png")]) == 2
    assert "width: must be a multiple of 8" in capsys.readouterr().err
