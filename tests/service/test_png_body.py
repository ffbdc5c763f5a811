"""A PNG of this service, sent as the body of a submit, paints the same picture again."""

from __future__ import annotations

import io
import json
import struct
import zlib

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from testkit.http import assert_problem, finished, jobs_made
from testkit.workerless import PANORAMA, WorkerlessApi

HEADERS = {"content-type": "image/png"}


def png_with(recipe: str, *, packed: bool = False) -> bytes:
    text, buffer = PngInfo(), io.BytesIO()
    text.add_itxt("parameters", "of another program")
    text.add_itxt("recipe", recipe, zip=packed)
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def test_a_posted_png_is_painted_again_bit_for_bit(http: httpx.Client) -> None:
    request = {"prompt": "wald, ‘weiß’", "width": 128, "height": 128, "num_inference_steps": 2}

    first = finished(http, http.post("/panoramas", json=request).json()["id"])
    assert first["state"] == "succeeded"
    png = http.get(first["result"]["url"]).content
    again = http.post("/panoramas", content=png, headers=HEADERS)
    assert again.status_code == 202, again.text
    second = finished(http, again.json()["id"])
    assert second["state"] == "succeeded"
    assert second["input"] == first["input"]
    assert second["result"]["sha256"] == first["result"]["sha256"]


@pytest.mark.parametrize("packed", [False, True])
def test_the_recipe_is_found_after_other_text_chunks(workerless: WorkerlessApi, packed: bool) -> None:
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
        (png_with(" " * 10_000_000, packed=True), "#"),  # it decompresses to more than the limit
    ],
)
def test_a_png_without_a_valid_recipe_is_refused(workerless: WorkerlessApi, png: bytes, pointer: str) -> None:
    before = jobs_made(workerless.stack)
    problem = assert_problem(workerless.http.post("/panoramas", content=png, headers=HEADERS), 422)
    assert problem["errors"][0]["pointer"] == pointer
    assert jobs_made(workerless.stack) == before


def test_a_png_may_be_larger_than_a_json_body(workerless: WorkerlessApi) -> None:
    small = png_with(json.dumps(PANORAMA))
    pixels = struct.pack(">I", 3_000_000) + b"IDAT" + b"\0" * 3_000_000
    large = small[:33] + pixels + struct.pack(">I", zlib.crc32(pixels[4:])) + small[33:]
    assert workerless.http.post("/panoramas", content=large, headers=HEADERS).status_code == 202


def test_what_is_no_part_of_a_recipe_stands_in_the_query(workerless: WorkerlessApi) -> None:
    png = png_with(json.dumps(PANORAMA))
    query = {"priority": "batch", "metadata": '{"row": [1, "ü"]}'}
    job = workerless.http.post("/panoramas", params=query, content=png, headers=HEADERS).json()
    assert (job["priority"], job["metadata"]) == ("batch", {"row": [1, "ü"]})
    for query, pointer in (
        ({"priority": "high"}, "#/priority"),
        ({"metadata": "{"}, "#/metadata"),
        ({"metadata": "[]"}, "#/metadata"),
        ({"webhook_url": "https://example.org"}, "#/webhook_url"),
        ({"seed": "1"}, "#/seed"),
    ):
        answer = workerless.http.post("/panoramas", params=query, content=png, headers=HEADERS)
        assert assert_problem(answer, 422)["errors"][0]["pointer"] == pointer
    answer = workerless.http.post("/panoramas", params={"priority": "batch"}, json=PANORAMA)
    assert assert_problem(answer, 422)["errors"][0]["detail"].startswith("belongs into the body")
