"""Invalid requests are answered with a problem that names the field, and make no job."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from testkit.http import assert_problem, jobs_made
from testkit.processes import Stack

VALID = {"prompt": "mountains", "width": 128, "height": 128, "num_inference_steps": 1}

INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("no prompt", {"prompt": None}, "#/prompt"),
    ("empty prompt", {"prompt": ""}, "#/prompt"),
    ("blank prompt", {"prompt": " \n"}, "#/prompt"),
    ("over-long prompt", {"prompt": "a" * 2001}, "#/prompt"),
    ("prompt of another type", {"prompt": 7}, "#/prompt"),
    ("over-long negative prompt", {"negative_prompt": "a" * 2001}, "#/negative_prompt"),
    ("width not a multiple", {"width": 130}, "#/width"),
    ("height not a multiple", {"height": 129}, "#/height"),
    ("width too large", {"width": 8200}, "#/width"),
    ("height too large", {"height": 2056}, "#/height"),
    ("width below a view", {"width": 120}, "#/width"),
    ("height below a view", {"height": 64}, "#/height"),
    ("width negative", {"width": -8}, "#/width"),
    ("width a fraction", {"width": 128.5}, "#/width"),
    ("width as text", {"width": "128"}, "#/width"),
    ("no steps", {"num_inference_steps": 0}, "#/num_inference_steps"),
    ("ten thousand steps", {"num_inference_steps": 10_000}, "#/num_inference_steps"),
    ("more steps than the server allows", {"num_inference_steps": 201}, "#/num_inference_steps"),
    ("too much work", {"width": 8192, "height": 2048, "num_inference_steps": 51}, "#/num_inference_steps"),
    ("negative guidance", {"guidance_scale": -1}, "#/guidance_scale"),
    ("guidance not a number", {"guidance_scale": float("nan")}, "#/guidance_scale"),
    ("infinite guidance", {"guidance_scale": float("inf")}, "#/guidance_scale"),
    ("seed negative", {"seed": -2}, "#/seed"),
    ("seed beyond 2**53", {"seed": 2**53}, "#/seed"),
    ("seed a fraction", {"seed": 1.5}, "#/seed"),
    ("unknown model", {"model": "../../etc"}, "#/model"),
    ("unknown scheduler", {"scheduler": "magic"}, "#/scheduler"),
    ("unknown weights", {"view_weights": "magic"}, "#/view_weights"),
    ("stride zero", {"view_stride": 0}, "#/view_stride"),
    ("stride that leaves gaps", {"view_stride": 17}, "#/view_stride"),
    ("circular as text", {"circular": "yes"}, "#/circular"),
    ("unknown field", {"promt": "a"}, "#/promt"),
    ("unknown field with a slash", {"a/b~c": 1}, "#/a~1b~0c"),
    ("guidance that ends before it starts", {"guidance_start": 0.6, "guidance_end": 0.5}, "#/guidance_end"),
    ("guidance beyond the last step", {"guidance_end": 1.5}, "#/guidance_end"),
    ("a zero byte in the prompt", {"prompt": "hills\0lake"}, "#/prompt"),
    ("a control character", {"negative_prompt": "people\x1b[31m"}, "#/negative_prompt"),
    ("an unknown syntax", {"prompt_syntax": "comfy"}, "#/prompt_syntax"),
    ("more layers than the text encoder has", {"clip_skip": 2}, "#/clip_skip"),
    ("negative rescale", {"guidance_rescale": -0.1}, "#/guidance_rescale"),
    ("shift as text", {"shift_views": "yes"}, "#/shift_views"),
    ("preset that does not exist", {"preset": "best"}, "#/preset"),
    ("metadata of another type", {"metadata": ["a"]}, "#/metadata"),
    ("metadata too large", {"metadata": {"a": "b" * 16_400}}, "#/metadata"),
    ("metadata that is not JSON", {"metadata": {"a": [float("nan")]}}, "#/metadata"),
]


@pytest.mark.parametrize(("changes", "pointer"), [case[1:] for case in INVALID], ids=[case[0] for case in INVALID])
def test_an_invalid_field_is_named_and_makes_no_job(
    stack: Stack, http: httpx.Client, changes: dict[str, Any], pointer: str
) -> None:
    before = jobs_made(stack)
    body = {key: value for key, value in {**VALID, **changes}.items() if value is not None}
    response = http.post("/panoramas", content=json.dumps(body), headers={"content-type": "application/json"})
    problem = assert_problem(response, 422)
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert pointer.removeprefix("#/") in problem["detail"]
    assert jobs_made(stack) == before


def test_all_invalid_fields_are_reported_together(http: httpx.Client) -> None:
    problem = assert_problem(http.post("/panoramas", json={**VALID, "width": 130, "height": 64}), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"#/width", "#/height"}


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"nonsense", b"\xff\xfe", b"[1, 2]", b"null", b'"text"', b'{"prompt": "\\ud800"}', b"[" * 10_000],
    ids=["cut", "empty", "text", "bytes", "array", "null", "string", "lone surrogate", "deep"],
)
def test_a_body_that_is_not_a_request_is_refused(stack: Stack, http: httpx.Client, body: bytes) -> None:
    before = jobs_made(stack)
    response = http.post("/panoramas", content=body, headers={"content-type": "application/json"})
    problem = assert_problem(response, 422 if response.status_code == 422 else 400)
    assert problem["detail"]
    assert jobs_made(stack) == before


def test_an_unsupported_media_type_is_refused(stack: Stack, http: httpx.Client) -> None:
    before = jobs_made(stack)
    response = http.post(
        "/panoramas", content=b"prompt=a", headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert_problem(response, 415)
    assert jobs_made(stack) == before


def test_a_body_over_the_limit_is_refused_by_its_declared_length(http: httpx.Client) -> None:
    assert_problem(http.post("/panoramas", json={**VALID, "prompt": "a" * 100_000}), 413)


def test_a_body_over_the_limit_is_refused_while_it_streams_in(http: httpx.Client) -> None:
    chunks = (b" " * 10_000 for _ in range(50))
    assert_problem(http.post("/panoramas", content=chunks, headers={"content-type": "application/json"}), 413)


@pytest.mark.parametrize("job_id", ["x", "g" * 32, "A" * 32, "a" * 33, "..%2f..%2fetc%2fpasswd", "%00"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/image"), ("POST", "/cancel")])
def test_a_malformed_job_id_is_as_unknown_as_any_other(http: httpx.Client, method: str, path: str, job_id: str) -> None:
    assert_problem(http.request(method, f"/jobs/{job_id}{path}"), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/image"), ("POST", "/cancel")])
def test_an_unknown_job_is_404(http: httpx.Client, method: str, path: str) -> None:
    assert "job_id" in assert_problem(http.request(method, f"/jobs/{'0' * 32}{path}"), 404)["detail"]


def test_unknown_paths_and_methods_are_answered_with_problems(http: httpx.Client) -> None:
    assert_problem(http.get("/nowhere"), 404)
    response = http.delete("/panoramas")
    assert_problem(response, 405)
    assert response.headers["allow"] == "POST"
    assert http.put(f"/jobs/{'0' * 32}").headers["allow"] == "DELETE, GET, HEAD"


def test_the_api_survives_bytes_that_are_not_http(stack: Stack, http: httpx.Client) -> None:
    parts = urlsplit(stack.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:  # type: ignore[arg-type]
        connection.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        connection.recv(1000)
    assert http.get("/livez").status_code == 200
