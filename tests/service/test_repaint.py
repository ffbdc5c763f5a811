"""A PNG that the service has painted may be posted to be painted again; metadata comes back as it was given."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from testkit.http import assert_problem, jobs_made
from testkit.processes import Stack, eventually
from testkit.workerless import PANORAMA, WorkerlessApi

HEADERS = {"content-type": "image/png"}


def png_with(recipe: str, *, packed: bool = False) -> bytes:
    text, buffer = PngInfo(), io.BytesIO()
    text.add_itxt("parameters", "of another program")
    text.add_itxt("recipe", recipe, zip=packed)
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def test_a_painted_png_is_painted_again_bit_for_bit(stack: Stack, http: httpx.Client) -> None:
    asked = {"prompt": "wald, ‘weiß’", "width": 128, "height": 128, "num_inference_steps": 2}

    def ended(job: dict[str, Any]) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []

        def look() -> bool:
            seen.append(http.get(f"/jobs/{job['id']}", headers={"prefer": "wait=20"}).json())
            return seen[-1]["state"] == "succeeded"

        eventually(look, 60, "painted")
        return seen[-1]

    first = ended(http.post("/panoramas", json=asked).json())
    png = http.get(first["result"]["url"]).content
    again = http.post("/panoramas", content=png, headers=HEADERS)
    assert again.status_code == 202, again.text
    second = ended(again.json())
    assert second["input"] == first["input"]
    assert second["result"]["sha256"] == first["result"]["sha256"]


@pytest.mark.parametrize("packed", [False, True])
def test_the_recipe_is_found_behind_other_text(workerless: WorkerlessApi, packed: bool) -> None:
    png = png_with(json.dumps({**PANORAMA, "model": "tiny", "model_revision": "abc"}), packed=packed)
    answer = workerless.http.post("/panoramas", content=png, headers=HEADERS)
    assert (answer.status_code, answer.json()["input"]["seed"]) == (202, PANORAMA["seed"])


@pytest.mark.parametrize(
    ("png", "pointer"),
    [
        (b"", "#"),
        (b"GIF89a", "#"),
        (b"\x89PNG\r\n\x1a\n", "#"),
        (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 2**32 - 1, b"iTXt"), "#"),
        (png_with("{"), "#"),
        (png_with("[]"), "#"),
        (png_with("[" * 9000), "#"),
        (png_with(json.dumps({**PANORAMA, "model": "unknown here"})), "#/model"),
        (png_with(json.dumps({**PANORAMA, "width": 130})), "#/width"),
        (png_with(json.dumps({**PANORAMA, "more": 1})), "#/more"),
        (png_with(json.dumps(PANORAMA)).replace(b"mountains", b"mauntains"), "#"),  # the checksum is wrong
        (png_with(" " * 10_000_000, packed=True), "#"),  # it unpacks to more than a recipe holds
    ],
)
def test_a_png_without_a_good_recipe_is_refused(workerless: WorkerlessApi, png: bytes, pointer: str) -> None:
    before = jobs_made(workerless.stack)
    problem = assert_problem(workerless.http.post("/panoramas", content=png, headers=HEADERS), 422)
    assert problem["errors"][0]["pointer"] == pointer
    assert jobs_made(workerless.stack) == before


def test_a_png_may_be_larger_than_other_requests(workerless: WorkerlessApi) -> None:
    small = png_with(json.dumps(PANORAMA))
    pixels = struct.pack(">I", 3_000_000) + b"IDAT" + b"\0" * 3_000_000
    large = small[:33] + pixels + struct.pack(">I", zlib.crc32(pixels[4:])) + small[33:]
    assert workerless.http.post("/panoramas", content=large, headers=HEADERS).status_code == 202


METADATA = {"": None, "näme": "ünï ✓", "list": [1, 2.5, {"deep": [[]]}], "big": 2**70, "yes": True, "e": 1e-7}


def test_metadata_is_any_json_object_and_comes_back_as_it_was(workerless: WorkerlessApi) -> None:
    job = workerless.submit(metadata=METADATA)
    assert job["metadata"] == METADATA
    assert workerless.get(job["id"])["metadata"] == METADATA
    assert workerless.submit(metadata={"a": "b" * 16_000})["state"] == "queued"


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": ' + "9" * 5000 + "}", '{"a": ' + "[" * 400 + "]" * 400 + "}"])
def test_metadata_that_could_not_come_back_is_refused(workerless: WorkerlessApi, text: str) -> None:
    body = json.dumps(PANORAMA)[:-1] + f', "metadata": {text}}}'
    answer = workerless.http.post("/panoramas", content=body, headers={"content-type": "application/json"})
    assert_problem(answer, 422)
