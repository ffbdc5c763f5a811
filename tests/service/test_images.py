"""Images in the format that a client accepts, and thumbnails."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from engine.picture import encode_png
from jobs.record import State
from recipe.fields import Recipe
from service.image_formats import AVIF, JPEG, PNG, WEBP, ImageFormat, convert, formats_for, negotiate
from testkit.http import assert_problem, finished, submit
from testkit.processes import Stack, eventually
from testkit.workerless import WorkerlessApi

FIREFOX_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
FIREFOX_IMAGE = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"


@pytest.mark.parametrize(
    ("accept", "image_format"),
    [
        (None, PNG),
        ("", PNG),
        ("*/*", PNG),
        ("image/*", PNG),
        (FIREFOX_PAGE, PNG),
        (FIREFOX_IMAGE, PNG),
        ("image/webp", WEBP),
        ("IMAGE/WebP ; q=0.5", WEBP),
        ("image/jpeg;q=0.9, image/avif;q=0.8", JPEG),
        ("image/avif, image/webp;q=0.9, image/png;q=0.1", AVIF),
        ("image/png;q=0, image/*", WEBP),
        ("image/png;q=0, image/webp;q=0, */*;q=0.1", JPEG),
        ("image/webp;q=x, image/jpeg", JPEG),
        ("text/html", None),
        ("*/*;q=0", None),
    ],
)
def test_the_format_is_the_one_that_accept_prefers(accept: str | None, image_format: ImageFormat | None) -> None:
    assert negotiate(accept, (PNG, WEBP, JPEG, AVIF)) is image_format


@pytest.mark.parametrize("image_format", [WEBP, JPEG, AVIF], ids=lambda each: each.suffix)
def test_a_ring_stays_one_in_every_format(image_format: ImageFormat) -> None:
    """It says that it is a panorama, and its two edges meet as well as any two columns do."""
    y, x = np.mgrid[:128, :512]
    waves = [np.sin(2 * np.pi * (x * turns / 512 + y / 128)) * 90 + 128 for turns in (3, 5, 7)]
    pixels = np.stack(waves, axis=-1).astype(np.uint8)
    png = encode_png(pixels, Recipe(prompt="a", circular=True), model="m", revision="r")
    image = Image.open(io.BytesIO(convert(png, image_format)))
    assert b"cylindrical" in image.info["xmp"]
    difference = np.asarray(image.convert("RGB")).astype(float) - pixels
    jumps = np.abs(np.roll(difference, -1, axis=1) - difference).mean(axis=(0, 2))
    assert jumps[-1] <= 2 * np.median(jumps) + 0.5
    plain = encode_png(pixels, Recipe(prompt="a"), model="m", revision="r")
    assert "xmp" not in Image.open(io.BytesIO(convert(plain, image_format))).info


def test_a_format_that_cannot_hold_a_picture_is_not_offered() -> None:
    assert WEBP in formats_for(16_383, 512)
    assert WEBP not in formats_for(16_384, 512)
    assert formats_for(65_536, 512) == (PNG,)


def test_an_image_is_served_in_every_format_with_its_own_etag(workerless: WorkerlessApi) -> None:
    url, tags = workerless.done()["result"]["url"], set()
    for name in ("png", "webp", "jpeg", "avif"):
        answer = workerless.http.get(url, headers={"accept": f"image/{name}"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{name}")
        assert answer.headers["vary"] == "Accept"
        assert Image.open(io.BytesIO(answer.content)).format == name.upper()
        tag = answer.headers["etag"]
        again = workerless.http.get(url, headers={"accept": f"image/{name}", "if-none-match": tag})
        assert (again.status_code, again.headers["vary"]) == (304, "Accept")
        part = workerless.http.get(url, headers={"accept": f"image/{name}", "range": "bytes=4-9", "if-range": tag})
        assert (part.status_code, part.content) == (206, answer.content[4:10])
        tags.add(tag)
    assert len(tags) == 4
    assert_problem(workerless.http.get(url, headers={"accept": "text/html"}), 406)


@pytest.mark.parametrize("name", ["webp", "thumbnail"])
def test_a_large_image_is_converted_in_a_child_process(workerless: WorkerlessApi, name: str) -> None:
    record = workerless.claim(workerless.submit(width=4096, height=1032)["id"])
    buffer = io.BytesIO()
    Image.new("RGB", (4096, 1032), (10, 200, 30)).save(buffer, "PNG")
    stored = workerless.store.put(record.id, record.token, buffer.getvalue())
    result = {"key": stored.key, "sha256": stored.sha256, "bytes": stored.bytes, "width": 4096, "height": 1032}
    workerless.claims.finish(record.id, record.token, State.SUCCEEDED, result=result, timings={})
    api = psutil.Process(workerless.stack.processes[0].pid)
    path = "thumbnail" if name == "thumbnail" else "image"
    with ThreadPoolExecutor(1) as pool:
        headers = {"accept": f"image/{name}"}
        request = pool.submit(workerless.http.get, f"/jobs/{record.id}/{path}", headers=headers)
        eventually(api.children, 10, "a child process is running")
        answer = request.result()
    assert Image.open(io.BytesIO(answer.content)).size == ((512, 129) if name == "thumbnail" else (4096, 1032))
    eventually(lambda: not api.children(), 10, "the child process has ended")


def test_a_thumbnail_is_a_small_copy_of_the_image(workerless: WorkerlessApi) -> None:
    job = workerless.done()
    answer = workerless.http.get(job["links"]["thumbnail"], headers={"accept": "image/webp"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in answer.headers["cache-control"]
    small, whole = (
        Image.open(io.BytesIO(data)) for data in (answer.content, workerless.http.get(job["result"]["url"]).content)
    )
    assert max(small.size) <= 512
    assert all(abs(a - b) < 8 for a, b in zip(small.getpixel((9, 9)), whole.getpixel((9, 9)), strict=True))
    again = workerless.http.get(job["links"]["thumbnail"], headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_a_job_has_a_thumbnail_only_while_it_has_an_image(workerless: WorkerlessApi) -> None:
    waiting = workerless.submit()["id"]
    problem = workerless.http.get(f"/jobs/{waiting}/thumbnail")
    assert_problem(problem, 409)
    assert int(problem.headers["retry-after"]) >= 1
    job = workerless.done()
    assert workerless.http.get(f"/jobs/{job['id']}/thumbnail").status_code == 200
    workerless.http.delete(f"/jobs/{job['id']}")
    assert_problem(workerless.http.get(f"/jobs/{job['id']}/thumbnail"), 410)


def test_a_damaged_image_is_answered_with_an_error(stack: Stack, http: httpx.Client) -> None:
    job = finished(http, submit(http)["id"])
    (path,) = (stack.folder / "data" / "images" / job["id"]).iterdir()
    path.write_bytes(b"damaged")
    response = http.get(job["result"]["url"])
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
