"""`panoramas generate` offers every field of a request, under the flag that `python -m engine` has for it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import Any

import pytest
import yaml
from typer.main import get_command

from panoramas.cli import app
from panoramas.params import PanoramaRequest
from recipe.request import REQUEST_FIELDS
from testkit.processes import ROOT, eventually
from testkit.workerless import WorkerlessApi

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
FLAGS = {parameter.name: parameter for parameter in COMMANDS["generate"].params}
NOT_SENT = {"out", "form", "idempotency_key", "patience", "url", "api_key"}
# Sizes are spelt out, where the original's command line says --W and --H.
OTHER_FLAG = {"width": "width", "height": "height"}


@pytest.mark.parametrize("command", ["generate", "submit"])
def test_there_is_a_flag_for_every_field_of_a_request(command: str) -> None:
    description = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    fields = description["components"]["schemas"]["PanoramaRequest"]["properties"]
    flags = {parameter.name for parameter in COMMANDS[command].params} - {"help"}
    assert flags - NOT_SENT == set(fields) == PanoramaRequest.__annotations__.keys()
    assert set(REQUEST_FIELDS) <= flags


@pytest.mark.parametrize("name", sorted(set(REQUEST_FIELDS) - {"prompt"}))
def test_a_flag_is_named_as_on_the_engines_command_line(name: str) -> None:
    expected = OTHER_FLAG.get(name, REQUEST_FIELDS[name].flag or name).replace("_", "-")
    assert f"--{expected}" in FLAGS[name].opts


def job_of_order(workerless: WorkerlessApi, order: str) -> dict[str, Any] | None:
    jobs = workerless.http.get("/jobs").json()["items"]
    return next((job for job in jobs if job["metadata"] == {"order": order}), None)


def test_a_submit_carries_the_flags_as_fields(workerless: WorkerlessApi) -> None:
    order = uuid.uuid4().hex
    flags = ["--width", "256", "--height", "136", "--steps", "5", "--shift-views", "--guidance-end", "0.5"]
    flags += [
        "--priority",
        "batch",
        "--metadata",
        json.dumps({"order": order}),
        "--guidance-rescale",
        "0.25",
        "--negative",
        "fog",
    ]
    command = [sys.executable, "-m", "panoramas", "generate", "hills", "--url", workerless.stack.url, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            job = eventually(lambda: job_of_order(workerless, order), 30, "the job is queued")
        finally:
            process.kill()
    assert job["priority"] == "batch"
    expected = {"width": 256, "num_inference_steps": 5, "shift_views": True, "guidance_end": 0.5}
    expected |= {"guidance_rescale": 0.25, "negative_prompt": "fog"}
    assert {name: job["input"][name] for name in expected} == expected


def test_metadata_that_is_no_json_object_is_refused_before_anything_is_sent() -> None:
    for text in ("7", "{", json.dumps([1])):
        command = [sys.executable, "-m", "panoramas", "generate", "hills", "--metadata", text]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, "--metadata" in done.stderr) == (2, True), done.stderr
