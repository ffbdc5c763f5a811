"""From submit to image, end to end: real API, real Redis, a real worker with a real (tiny) model."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
from PIL import Image

from testkit.http import PANORAMA, finished, submit
from testkit.processes import ROOT, Stack


def test_a_panorama_is_accepted_painted_and_fetched(http: httpx.Client) -> None:
    response = http.post("/panoramas", json={**PANORAMA, "metadata": {"order": "17"}})
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}" == job["links"]["self"]
    assert int(response.headers["retry-after"]) >= 1
    assert job["input"] == {
        **PANORAMA,
        "negative_prompt": "",
        "guidance_scale": 7.5,
        "model": "tiny",
        "scheduler": "ddim",
        "circular": False,
        "view_stride": 8,
        "view_weights": "uniform",
        "shift_views": False,
        "guidance_rescale": 0.0,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "prompt_syntax": "plain",
        "clip_skip": 0,
        "regions": [],
        "region_feather": 0.0,
        "region_bootstrap": 0.0,
    }
    job = finished(http, job["id"])
    assert (job["state"], job["error"], job["attempt"]) == ("succeeded", None, 1)
    assert job["progress"] == {"step": 2, "total_steps": 2, "fraction": 1.0, "phase": "done"}
    assert job["metadata"] == {"order": "17"}
    assert job["created_at"] <= job["started_at"] <= job["finished_at"] < job["expires_at"]
    image = http.get(job["result"]["url"])
    assert image.headers["content-type"] == "image/png"
    assert hashlib.sha256(image.content).hexdigest() == job["result"]["sha256"]
    assert len(image.content) == job["result"]["bytes"]
    picture = Image.open(io.BytesIO(image.content))
    assert picture.size == (256, 136) == (job["result"]["width"], job["result"]["height"])
    recipe = json.loads(picture.text["recipe"])  # type: ignore[attr-defined]
    assert {key: recipe[key] for key in PANORAMA} == PANORAMA
    assert recipe["model_revision"] == job["model"]["revision"]
    assert (recipe["dtype"], recipe["device"]) == ("float32", "cpu")


def test_the_resolved_input_paints_the_same_picture_again(http: httpx.Client) -> None:
    first = finished(http, submit(http, seed=None)["id"])
    again = finished(http, http.post("/panoramas", json=first["input"]).json()["id"])
    assert again["result"]["sha256"] == first["result"]["sha256"]
    other = finished(http, submit(http, seed=None)["id"])
    assert other["input"]["seed"] != first["input"]["seed"]
    assert other["result"]["sha256"] != first["result"]["sha256"]


def test_the_engines_command_line_paints_the_same_picture_as_the_service(
    stack: Stack, http: httpx.Client, tiny_model: Path, tmp_path: Path
) -> None:
    job = finished(http, submit(http, negative_prompt="people", guidance_scale=5.0)["id"])
    out = tmp_path / "out.png"
    flags = "--prompt mountains --negative people --W 256 --H 136 --steps 2 --seed 7 --guidance 5".split()
    command = [sys.executable, "-m", "engine", "--model", str(tiny_model), *flags, "--out", str(out)]
    # The worker's number of threads, because it sets the order of sums and so the last bits.
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, env={**os.environ, **stack.environment})
    served = Image.open(io.BytesIO(http.get(job["result"]["url"]).content))
    with Image.open(out) as written:
        assert written.tobytes() == served.tobytes()


def test_models_are_loaded_once_and_stay_loaded(http: httpx.Client) -> None:
    def load(model: str) -> float:
        return finished(http, submit(http, model=model)["id"])["timings"]["load"]

    assert load("tiny") == 0, "the default model is loaded before the first job"
    assert load("tiny") == 0
    load("other")
    assert load("other") == 0
    assert load("tiny") == 0, "loading the second model did not unload the first"


def test_models_with_different_weights_paint_different_pictures(http: httpx.Client) -> None:
    jobs = [finished(http, submit(http, model=model)["id"]) for model in ("tiny", "other")]
    assert jobs[0]["result"]["sha256"] != jobs[1]["result"]["sha256"]
    assert jobs[0]["model"]["revision"] != jobs[1]["model"]["revision"]


def test_a_truncated_prompt_is_reported_in_a_notice(http: httpx.Client) -> None:
    job = finished(http, submit(http, prompt="mountains " * 100)["id"])
    assert job["state"] == "succeeded"
    assert [notice["code"] for notice in job["notices"]] == ["prompt-truncated"]
    assert finished(http, submit(http)["id"])["notices"] == []


def test_the_command_line_generates_into_a_file(stack: Stack, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    flags = "--width 128 --height 128 --steps 1 --seed 3 --url".split()
    command = [sys.executable, "-m", "panoramas", "generate", "mountains", "-o", str(out), *flags, stack.url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "seed 3" in done.stdout
    with Image.open(out) as written:
        assert written.size == (128, 128)


def test_the_command_line_reports_an_error_in_one_line(stack: Stack) -> None:
    command = [sys.executable, "-m", "panoramas", "generate", "mountains", "--width", "130", "--url", stack.url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "#/width: must be a multiple of 8" in done.stderr
    assert "Traceback" not in done.stderr
