"""Bodies that are made to take time or memory are refused quickly, with a small answer."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator

import pytest

from jobs import keys
from testkit.http import JSON_LINES, assert_problem, jobs_made
from testkit.workerless import PANORAMA, WorkerlessApi

JSON_BODY = {"content-type": "application/json"}
_MEBI = 1 << 20


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


FLOODS: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "a field for every five bytes": (
        "/panoramas",
        b"{" + b",".join(b'"%x":1' % number for number in range(6500)) + b"}",
        JSON_BODY,
    ),
    "a long list": ("/panoramas", b"[" + b"[]," * 5000 + b"{}]", JSON_BODY),
    "a long number": ("/panoramas", b"1." + b"0" * 20_000, JSON_BODY),
    "a long list in a batch": ("/batches", b'{"items":[[' + b"{}," * 5000 + b"{}]]}", JSON_BODY),
    "a long name": ("/panoramas", json.dumps({**PANORAMA, "a" * 60_000: 1}).encode(), JSON_BODY),
    "deep metadata": (
        "/panoramas",
        b'{"prompt":"a","metadata":{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}}",
        JSON_BODY,
    ),
    "a huge number": ("/panoramas", b'{"prompt":"a","seed":' + b"9" * 60_000 + b"}", JSON_BODY),
    "a huge exponent": ("/panoramas", b'{"prompt":"a","metadata":{"a":1e' + b"9" * 60_000 + b"}}", JSON_BODY),
    "one line of unknown fields": (
        "/batches",
        b'{"items":[{' + b",".join(b'"%x":1' % number for number in range(1_500_000)) + b"}]}",
        JSON_BODY,
    ),
    "wrong items": ("/batches", b'{"items":[' + b"[]," * 5_000_000 + b"[]]}", JSON_BODY),
    "wrong lines": ("/batches", b"[]\n" * 9_999, JSON_LINES),
    "lines of unknown fields": (
        "/batches",
        (b"{" + b",".join(b'"%x":1' % number for number in range(6500)) + b"}\n") * 200,
        JSON_LINES,
    ),
    "blank lines": ("/batches", b"\n" * (60 * _MEBI), JSON_LINES),
    "blanks": ("/batches", b" " * (60 * _MEBI), JSON_BODY),
    "a deep batch": ("/batches", b"[" * (20 * _MEBI), JSON_BODY),
    "a batch of one string": ("/batches", b'{"items":["' + b"a" * (30 * _MEBI) + b'"]}', JSON_BODY),
    "another member": ("/batches", b'{"items":[],"items":[]}', JSON_BODY),
    "empty chunks": ("/panoramas", b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt") * (5 * _MEBI), {"content-type": "image/png"}),
    "a bomb": (
        "/panoramas",
        b"\x89PNG\r\n\x1a\n" + chunk(b"iTXt", b"recipe\0\1\0\0\0" + zlib.compress(b" " * (100 * _MEBI))),
        {"content-type": "image/png"},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def small_memory(workerless: WorkerlessApi) -> Iterator[None]:
    yield
    assert workerless.http.get("/livez").status_code == 200


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_refused_with_a_small_answer(workerless: WorkerlessApi, name: str) -> None:
    path, body, headers = FLOODS[name]
    before = jobs_made(workerless.stack)
    answer = workerless.http.post(path, content=body, headers=headers)
    problem = assert_problem(answer, 422)
    assert len(answer.content) < 64 * 1024
    assert len(problem["errors"]) <= 210
    assert jobs_made(workerless.stack) == before


def test_faults_beyond_those_named_are_counted(workerless: WorkerlessApi) -> None:
    path, body, headers = FLOODS["a field for every five bytes"]
    errors = assert_problem(workerless.http.post(path, content=body, headers=headers), 422)["errors"]
    assert len(errors) == 11
    assert errors[-1]["detail"] == "and 6490 more faults"


def test_a_batch_in_the_first_of_whose_items_are_faults_says_how_far_it_was_read(workerless: WorkerlessApi) -> None:
    body = b'{"prompt": "a"}\n' * 10 + b"{}\n" * 5000
    answer = workerless.http.post("/batches", content=body, headers=JSON_LINES)
    assert assert_problem(answer, 422)["detail"].startswith("100 of the first 110 items are not valid")


def test_an_item_of_a_batch_may_be_as_long_as_a_request(workerless: WorkerlessApi) -> None:
    item = {**PANORAMA, "metadata": {"a": "ü" * 8000}}
    text = json.dumps({"items": [item, item]}, ensure_ascii=False, indent=4).encode()
    batch = workerless.http.post("/batches", content=text, headers=JSON_BODY).json()
    assert batch["accepted"] == 2
    long = json.dumps({"items": [PANORAMA, {**PANORAMA, "prompt": "a" * 70_000}]}).encode()
    errors = assert_problem(workerless.http.post("/batches", content=long, headers=JSON_BODY), 422)["errors"]
    assert errors == [{"pointer": "#/items/1", "detail": "must be at most 65536 bytes of JSON"}]


@pytest.mark.parametrize("path", ["/panoramas", "/batches"])
def test_a_byte_order_mark_is_passed_over(workerless: WorkerlessApi, path: str) -> None:
    body = json.dumps(PANORAMA if path == "/panoramas" else {"items": [PANORAMA]}).encode()
    assert workerless.http.post(path, content=b"\xef\xbb\xbf" + body, headers=JSON_BODY).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "gzip"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "text/json"},
    ],
)
def test_an_encoding_that_is_not_read_is_415(workerless: WorkerlessApi, headers: dict[str, str]) -> None:
    answer = workerless.http.post("/panoramas", content=b"{}", headers={**JSON_BODY, **headers})
    assert_problem(answer, 415)


@pytest.mark.parametrize("charset", ['"UTF-8"', "utf8", "us-ascii"])
def test_utf_8_may_be_named(workerless: WorkerlessApi, charset: str) -> None:
    headers = {"content-type": f"Application/JSON; charset={charset}", "content-encoding": "identity"}
    assert workerless.http.post("/panoramas", content=json.dumps(PANORAMA), headers=headers).status_code == 202


def test_a_png_in_capitals_has_the_limit_of_pictures(workerless: WorkerlessApi) -> None:
    answer = workerless.http.post("/panoramas", content=b"a" * 200_000, headers={"content-type": "Image/PNG"})
    assert_problem(answer, 422)


def test_a_long_trace_is_kept_with_no_job(workerless: WorkerlessApi) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01-{'c' * 20_000}"
    job = workerless.http.post("/panoramas", json=PANORAMA, headers={"traceparent": trace}).json()
    assert workerless.redis.memory_usage(keys.job(job["id"])) < 3000
