"""`Range`: a part of an image."""

from __future__ import annotations

from typing import Any

import pytest

from service.conditional import BadRange, byte_range
from testkit.http import assert_problem
from testkit.workerless import WorkerlessApi


def test_a_range_of_an_image_is_served(workerless: WorkerlessApi) -> None:
    url = workerless.done()["result"]["url"]
    whole = workerless.http.get(url)
    size, etag = len(whole.content), whole.headers["etag"]
    part = workerless.http.get(url, headers={"range": "bytes=10-19", "if-range": etag})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}"
    other = workerless.http.get(url, headers={"range": "bytes=10-19", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)
    outside = workerless.http.get(url, headers={"range": f"bytes={size}-"})
    assert_problem(outside, 416)
    assert outside.headers["content-range"] == f"bytes */{size}"
    assert workerless.http.head(url, headers={"range": "bytes=0-1"}).status_code == 200


RANGES: list[tuple[str | None, Any]] = [
    (None, None),
    ("bytes=0-0", (0, 0)),
    ("bytes=5-", (5, 9)),
    ("bytes=-3", (7, 9)),
    ("bytes=-99", (0, 9)),
    ("bytes=5-99", (5, 9)),
    ("bytes=5-4", None),
    ("bytes=0-1,3-4", None),
    ("lines=0-1", None),
    ("bytes=-", None),
    ("bytes=x-1", None),
    ("bytes=10-", BadRange),
    ("bytes=10-20", BadRange),
    ("bytes=-0", BadRange),
]


@pytest.mark.parametrize(("text", "expected"), RANGES)
def test_ranges_are_parsed_as_rfc_9110_defines(text: str | None, expected: Any) -> None:
    if expected is BadRange:
        with pytest.raises(BadRange):
            byte_range(text, None, '"a"', 10)
    else:
        assert byte_range(text, None, '"a"', 10) == expected
