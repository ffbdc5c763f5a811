"""The reader of batches takes the same items from a text as a JSON parser, whatever the text is."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.json_items import NotJson, TooLong, lines, object_items

LONGEST = 20_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)
SPACES = st.text(" \t\r\n", max_size=3)


def items_of(text: bytes) -> Iterator[bytes]:
    return object_items(io.BytesIO(text), LONGEST)


@given(st.lists(VALUES, max_size=20), SPACES, st.booleans())
@settings(max_examples=200, deadline=None)
def test_items_are_those_of_a_json_parser(items: list[object], space: str, ascii_only: bool) -> None:
    text = json.dumps({"items": items}, ensure_ascii=ascii_only, indent=space or None).replace("\ud800", "?")
    data = (space + text + space).encode("utf-8", "replace")
    assert [json.loads(item) for item in items_of(data)] == json.loads(data)["items"]
    assert [json.loads(item) for item in items_of(b"\xef\xbb\xbf" + data)] == json.loads(data)["items"]


@given(st.binary(max_size=60) | st.text('{}[]",:itemsn0. ', max_size=60).map(str.encode))
@settings(max_examples=500, deadline=None)
def test_what_a_json_parser_refuses_is_refused(data: bytes) -> None:
    try:
        parsed = json.loads(data.decode())
    except ValueError:
        with pytest.raises((NotJson, KeyError)):
            list(items_of(data))
    else:
        if not (isinstance(parsed, dict) and list(parsed) == ["items"] and isinstance(parsed["items"], list)):
            with pytest.raises(KeyError):
                list(items_of(data))


@pytest.mark.parametrize("size", [3_000, 4_096, 16_384, 19_000])
def test_long_items_are_whole_wherever_a_character_falls(size: int) -> None:
    for shift in range(4):
        item = "a" * shift + "é–𝄞" * (size // 9)
        text = json.dumps({"items": [item, 12, item]}, ensure_ascii=False).encode()
        assert [json.loads(part) for part in items_of(text)] == [item, 12, item]


@pytest.mark.parametrize(
    "text",
    [
        b'{"items": [' + b'"' + b"a" * 30_000 + b'"]}',
        b'{"items": [' + b"[" * 30_000,
        b'{"items": [' + b'{"a":' * 30_000,
        b'{"items": [' + b"1" * 30_000 + b"]}",
        b'{"' + b"a" * 30_000 + b'": 1}',
        b"[" * 30_000,
    ],
    ids=["string", "arrays", "objects", "digits", "name", "no object"],
)
def test_a_value_of_any_shape_ends_at_the_limit(text: bytes) -> None:
    with pytest.raises((TooLong, NotJson)):
        list(items_of(text))


def test_duplicate_lists_and_other_members_are_refused() -> None:
    for text in (b'{"items": [], "items": [1]}', b'{"other": 1, "items": []}', b'{"items": [], "other": 1}'):
        with pytest.raises(KeyError):
            list(items_of(text))


def test_lines_are_taken_without_blank_ones() -> None:
    text = b"\xef\xbb\xbf\r\n{}\r\n \n\n[1]" + b"\n" * 100_000 + b'"last"'
    assert [line.strip() for line in lines(io.BytesIO(text), LONGEST)] == [b"{}", b"[1]", b'"last"']
    for text in (b"a" * 70_000 + b"\n", b"\n" * 300_000, b"[1]" + b" " * 300_000):
        with pytest.raises(TooLong):
            list(lines(io.BytesIO(text), LONGEST))
