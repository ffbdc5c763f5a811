"""Regions over HTTP: refused by the pointer of the field, painted, and painted again from the picture."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from testkit.http import assert_problem, finished, jobs_made
from testkit.processes import ROOT, Stack
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api

HALVES = [{"prompt": "mountains", "right": 0.5}, {"prompt": "a city", "left": 0.5, "negative_prompt": "fog"}]

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"regions": [{}]}, "#/regions/0/prompt"),
    ({"regions": [{"prompt": " "}]}, "#/regions/0/prompt"),
    ({"regions": [HALVES[0], {"prompt": "a" * 2001}]}, "#/regions/1/prompt"),
    ({"regions": [HALVES[0], {"prompt": "a\x1b"}]}, "#/regions/1/prompt"),
    ({"regions": [{"prompt": "a", "left": 0.5, "right": 0.5}]}, "#/regions/0/right"),
    ({"regions": [{"prompt": "a", "left": 0.9, "right": 0.1}]}, "#/regions/0/right"),
    ({"regions": [{"prompt": "a", "top": 0.5, "bottom": 0.2}]}, "#/regions/0/bottom"),
    ({"regions": [{"prompt": "a", "right": 0.001}]}, "#/regions/0/right"),
    ({"regions": [{"prompt": "a", "right": 1.5}]}, "#/regions/0/right"),
    ({"regions": [{"prompt": "a", "left": float("nan")}]}, "#/regions/0/left"),
    ({"regions": [{"prompt": "a", "left": "0"}]}, "#/regions/0/left"),
    ({"regions": [{"prompt": "a", "left": True}]}, "#/regions/0/left"),
    ({"regions": [{"prompt": "a", "weight": 0}]}, "#/regions/0/weight"),
    ({"regions": [{"prompt": "a", "guidance_scale": 1e9}]}, "#/regions/0/guidance_scale"),
    ({"regions": [{"prompt": "a", "mask": "b"}]}, "#/regions/0/mask"),
    ({"regions": ["a"]}, "#/regions/0"),
    ({"regions": {"prompt": "a"}}, "#/regions"),
    ({"regions": HALVES * 9}, "#/regions"),
    ({"region_feather": -1}, "#/region_feather"),
    ({"region_bootstrap": 1.5}, "#/region_bootstrap"),
]


@pytest.mark.parametrize(("changes", "pointer"), INVALID, ids=[f"{i} {case[1]}" for i, case in enumerate(INVALID)])
def test_a_fault_of_a_region_is_named_and_makes_no_job(
    workerless: WorkerlessApi, changes: dict[str, Any], pointer: str
) -> None:
    before = jobs_made(workerless.stack)
    body, headers = json.dumps({**PANORAMA, **changes}), {"content-type": "application/json"}
    problem = assert_problem(workerless.http.post("/panoramas", content=body, headers=headers), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert jobs_made(workerless.stack) == before


def test_an_item_of_a_batch_is_named_with_its_region(workerless: WorkerlessApi) -> None:
    good, bad = {**PANORAMA, "regions": HALVES}, {**PANORAMA, "regions": [{"prompt": "a", "right": 0}]}
    for kind, body in (
        ("application/json", json.dumps({"items": [good, bad]})),
        ("application/x-ndjson", f"{json.dumps(good)}\n{json.dumps(bad)}\n"),
    ):
        headers = {"content-type": kind}
        problem = assert_problem(workerless.http.post("/batches", content=body, headers=headers), 422)
        assert [error["pointer"] for error in problem["errors"]] == ["#/items/1/regions/0/right"]
        lenient = workerless.http.post("/batches", content=body, headers=headers | {"prefer": "handling=lenient"})
        assert (lenient.json()["accepted"], lenient.json()["refused"]) == (1, 1)


def test_the_accepted_job_says_what_each_region_inherits(workerless: WorkerlessApi) -> None:
    job = workerless.submit(regions=HALVES, negative_prompt="people", guidance_scale=5)
    first, second = job["input"]["regions"]
    assert first == {
        "prompt": "mountains",
        "left": 0.0,
        "top": 0.0,
        "right": 0.5,
        "bottom": 1.0,
        "negative_prompt": "people",
        "guidance_scale": 5.0,
        "weight": 1.0,
    }
    assert second["negative_prompt"] == "fog"
    again = workerless.http.post("/panoramas", json=job["input"])
    assert again.json()["input"] == job["input"], "an input can be sent again as it is"


def test_a_request_without_regions_says_that_it_has_none(workerless: WorkerlessApi) -> None:
    job = workerless.submit()["input"]
    assert (job["regions"], job["region_feather"], job["region_bootstrap"]) == ([], 0.0, 0.0)
    nulls = {"regions": None, "region_feather": None, "region_bootstrap": None}
    assert workerless.submit(**nulls)["input"] == job


def test_more_samples_than_the_server_allows_are_refused_with_their_number(tmp_path: Path) -> None:
    """A canvas of one view in two steps with guidance: 4 samples, and 8 where two regions touch the view."""
    one_view = {**PANORAMA, "width": 128, "height": 128, "num_inference_steps": 2}
    with running_workerless_api(tmp_path, PANORAMAS_MAX_SAMPLES="7") as api:
        assert api.http.get("/models").json()["limits"]["samples"] == 7
        assert api.http.post("/panoramas", json=one_view).status_code == 202
        problem = assert_problem(api.http.post("/panoramas", json={**one_view, "regions": HALVES}), 422)
        assert problem["errors"][0]["pointer"] == "#/regions"
        assert "8 samples" in problem["detail"]
        problem = assert_problem(api.http.post("/panoramas", json={**one_view, "width": 256}), 422)
        assert problem["errors"][0]["pointer"] == "#/view_stride"


def test_models_say_that_they_support_regions(workerless: WorkerlessApi) -> None:
    models = workerless.http.get("/models").json()
    assert [model["supports"] for model in models["items"]] == [["regions"]]
    assert models["limits"]["regions"] == 16


def test_the_same_regions_in_another_spelling_are_one_request(workerless: WorkerlessApi) -> None:
    headers = {"idempotency-key": "regions"}
    spelt = [{"prompt": "mountains", "left": None, "right": 0.5}, HALVES[1]]
    jobs = [
        workerless.http.post("/panoramas", json={**PANORAMA, "regions": regions}, headers=headers).json()["id"]
        for regions in (HALVES, spelt)
    ]
    assert jobs[0] == jobs[1]
    other = {**PANORAMA, "regions": HALVES[:1]}
    assert_problem(workerless.http.post("/panoramas", json=other, headers=headers), 422)


def test_a_posted_png_with_regions_is_painted_again_bit_for_bit(http: httpx.Client) -> None:
    shape = {"width": 256, "height": 128, "num_inference_steps": 2, "view_stride": 8}
    regions = [{"prompt": "wald, ‘weiß’", "left": 0.8, "right": 0.3}, {"prompt": "dunes", "left": 0.4, "weight": 2}]
    request = {"prompt": "hills", **shape, "regions": regions, "circular": True, "region_feather": 0.2}
    first = finished(http, http.post("/panoramas", json=request | {"region_bootstrap": 0.5}).json()["id"])
    assert first["state"] == "succeeded", first["error"]
    png = http.get(first["result"]["url"]).content
    again = http.post("/panoramas", content=png, headers={"content-type": "image/png"})
    assert again.status_code == 202, again.text
    second = finished(http, again.json()["id"])
    assert second["input"] == first["input"]
    assert second["result"]["sha256"] == first["result"]["sha256"]
    plain = finished(http, http.post("/panoramas", json={**request, "regions": None}).json()["id"])
    assert plain["result"]["sha256"] != first["result"]["sha256"]


def test_a_job_says_what_it_costs(workerless: WorkerlessApi) -> None:
    """One view in five steps with guidance, then for two regions, then as an item of a batch."""
    shape = {"width": 128, "height": 128}
    assert workerless.submit(**shape)["network_samples"] == 10
    halves = workerless.submit(**shape, regions=HALVES)
    assert (halves["network_samples"], workerless.get(halves["id"])["network_samples"]) == (20, 20)
    one_side = workerless.submit(**shape, regions=HALVES, guidance_scale=1.0)
    assert one_side["network_samples"] == 10
    batch = workerless.http.post("/batches", json={"items": [{**PANORAMA, **shape, "regions": HALVES}]}).json()
    items = workerless.http.get(f"/jobs?batch={batch['id']}").json()["items"]
    assert [item["network_samples"] for item in items] == [20]


def test_both_command_lines_paint_the_picture_of_the_api(
    stack: Stack, http: httpx.Client, tiny_model: Path, tmp_path: Path
) -> None:
    shape = {"width": 256, "height": 128, "num_inference_steps": 2, "seed": 7, "view_stride": 8}
    halves = [{**HALVES[0], "left": 0.0, "top": 0.0, "bottom": 1.0}, HALVES[1]]
    asked = {"prompt": "hills", **shape, "regions": halves, "region_feather": 0.2, "region_bootstrap": 0.5}
    job = finished(http, http.post("/panoramas", json=asked).json()["id"])
    with Image.open(io.BytesIO(http.get(job["result"]["url"]).content)) as picture:
        expected = picture.tobytes()
    flags = ["--steps", "2", "--seed", "7", "--stride", "8"]
    flags += ["--region", "0,0,0.5,1:mountains", "--region", json.dumps(HALVES[1])]
    commands = {
        "engine": "--prompt hills --W 256 --H 128 --region_feather 0.2 --region_bootstrap 0.5 --out",
        "panoramas": "generate hills --width 256 --height 128 --region-feather 0.2 --region-bootstrap 0.5 --out",
    }
    models = {"engine": ["--model", str(tiny_model)], "panoramas": ["--url", stack.url]}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **stack.environment}
    for name, own in commands.items():
        command = [sys.executable, "-m", name, *own.split(), f"{name}.png", *models[name], *flags]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / f"{name}.png") as written:
            assert written.tobytes() == expected, name


@pytest.mark.parametrize("name", ["engine", "panoramas"])
def test_a_malformed_region_is_refused_by_the_command_lines(name: str) -> None:
    own = {"engine": ["--prompt", "hills"], "panoramas": ["generate", "hills"]}[name]
    command = [sys.executable, "-m", name, *own, "--region", "0,0,1:mountains"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "--region" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
