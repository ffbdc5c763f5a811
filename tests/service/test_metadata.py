"""Clients' metadata comes back unchanged."""

from __future__ import annotations

import json

import pytest

from testkit.http import assert_problem
from testkit.workerless import PANORAMA, WorkerlessApi

METADATA = {"": None, "näme": "ünï ✓", "list": [1, 2.5, {"deep": [[]]}], "big": 2**70, "yes": True, "e": 1e-7}


def test_any_json_object_comes_back_unchanged(workerless: WorkerlessApi) -> None:
    job = workerless.submit(metadata=METADATA)
    assert job["metadata"] == METADATA
    assert workerless.get(job["id"])["metadata"] == METADATA
    assert workerless.submit(metadata={"a": "b" * 16_000})["state"] == "queued"


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": ' + "9" * 5000 + "}", '{"a": ' + "[" * 400 + "]" * 400 + "}"])
def test_metadata_that_cannot_come_back_unchanged_is_refused(workerless: WorkerlessApi, text: str) -> None:
    body = json.dumps(PANORAMA)[:-1] + f', "metadata": {text}}}'
    answer = workerless.http.post("/panoramas", content=body, headers={"content-type": "application/json"})
    assert_problem(answer, 422)
