"""`openapi.yaml` is up to date and complete: a client generated from it submits, waits, fetches and cancels."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from testkit.processes import ROOT, Stack, eventually
from tests.service.generators import JAVA, generate

OPENAPI_FILE = ROOT / "openapi.yaml"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A Python client that openapi-python-client generates from `openapi.yaml` alone."""
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "config.yaml"
    config.write_text(
        "content_type_overrides:\n"
        + "".join(f"  image/{kind}: application/octet-stream\n" for kind in ("png", "jpeg", "webp", "avif"))
        + "  application/x-ndjson: application/octet-stream\n  application/zip: application/octet-stream\n"
        + "post_hooks: []\n"
    )
    generator = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--meta", "none"]
    done = subprocess.run(
        [
            *generator,
            "--path",
            str(OPENAPI_FILE),
            "--output-path",
            str(folder / "panorama_api"),
            "--config",
            str(config),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout.lower() + done.stderr.lower(), done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield importlib.import_module("panorama_api")
    sys.path.remove(str(folder))


@pytest.mark.slow
@pytest.mark.skipif(JAVA is None, reason="Java is not installed")
def test_a_client_of_openapi_generator_submits_looks_and_cancels(stack: Stack, tmp_path: Path) -> None:
    folder = generate("python", tmp_path)
    code = f"""
import openapi_client as api
with api.ApiClient(api.Configuration(host={stack.url!r})) as client:
    request = api.PanoramaRequest(prompt="hills", width=256, height=128, num_inference_steps=100, circular=True)
    job = api.PanoramasApi(client).submit_panorama(request, idempotency_key="generated")
    seen = api.JobsApi(client).get_job(job.id)
    assert seen.input.circular and seen.input.width == 256 and seen.state.value in ("queued", "running"), seen
    assert api.JobsApi(client).cancel_job(job.id).id == job.id
    assert job.id in [item.id for item in api.JobsApi(client).list_jobs(limit=100).items]
    batch = api.BatchesApi(client).submit_batch(api.BatchRequest(items=[request]))
    assert api.BatchesApi(client).get_batch(batch.id).total == 1
    api.BatchesApi(client).cancel_batch(batch.id)
    assert api.HealthApi(client).readyz().status == "ok"
    try:
        api.PanoramasApi(client).submit_panorama(api.PanoramaRequest(prompt="hills", width=100))
    except api.ApiException as error:
        assert error.status == 422, error
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_openapi_yaml_is_the_applications_own_document() -> None:
    from service.openapi import render

    assert OPENAPI_FILE.read_text() == render(), "run `make openapi`"


def operations() -> list[tuple[str, dict[str, Any]]]:
    paths = yaml.safe_load(OPENAPI_FILE.read_text())["paths"]
    return [(f"{method} {path}", known[method]) for path, known in paths.items() for method in known]


def test_every_operation_has_a_name_a_summary_a_description_and_its_problems() -> None:
    assert yaml.safe_load(OPENAPI_FILE.read_text())["openapi"].startswith("3.1")
    names = []
    for where, operation in operations():
        names.append(operation["operationId"])
        assert re.fullmatch("[a-z]+[A-Za-z]*", operation["operationId"]), where
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"], where
        for status, response in operation["responses"].items():
            assert response["description"], f"{where} {status}"
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], f"{where} {status}"
        if operation.get("security") != []:
            assert {"401", "500"} <= set(operation["responses"]), where
        if "{" in where:
            assert {"404", "422"} <= set(operation["responses"]), where
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], f"{where} {parameter['name']}"
    assert len(set(names)) == len(names)


def test_every_body_has_an_example_and_every_example_is_valid() -> None:
    document = yaml.safe_load(OPENAPI_FILE.read_text())
    checked = 0
    for where, operation in operations():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in [*bodies, *operation["responses"].values()]:
            for media_type, content in body.get("content", {}).items():
                if "json" not in media_type or media_type.endswith("ndjson"):
                    continue
                name = content["schema"]["$ref"].rpartition("/")[2]
                examples = [content["example"]] if "example" in content else []
                examples += document["components"]["schemas"][name].get("examples", [])
                assert examples, f"{where}: {name}"
                root = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
                for example in examples:
                    jsonschema.Draft202012Validator(root).validate(example)
                    checked += 1
    assert checked > 50


def test_a_generated_client_submits_waits_fetches_and_cancels(stack: Stack, generated: ModuleType) -> None:
    from panorama_api import Client
    from panorama_api.api.jobs import cancel_job, get_image, get_job
    from panorama_api.api.panoramas import submit_panorama
    from panorama_api.models import PanoramaRequest, State

    with Client(base_url=stack.url) as client:
        wanted = PanoramaRequest(prompt="mountains", width=128, height=128, num_inference_steps=1)
        job = submit_panorama.sync(client=client, body=wanted)

        def ended(job_id: str) -> object:
            seen = get_job.sync(client=client, job_id=job_id)
            return seen if seen.state not in (State.QUEUED, State.RUNNING) else None

        done = eventually(lambda: ended(job.id), 60, "the job ends")
        assert done.state == State.SUCCEEDED
        image = get_image.sync(client=client, job_id=job.id)
        assert image.payload.read().startswith(b"\x89PNG")
        long = PanoramaRequest(prompt="mountains", width=1024, height=128, num_inference_steps=200)
        unwanted = submit_panorama.sync(client=client, body=long)
        cancel_job.sync(client=client, job_id=unwanted.id)
        assert eventually(lambda: ended(unwanted.id), 60, "the job ends").state == State.CANCELED
        refused = submit_panorama.sync(client=client, body=PanoramaRequest(prompt="mountains", width=130))
        assert refused.errors[0].pointer == "#/width"
