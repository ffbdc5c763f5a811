"""Reads the items of a batch one at a time from a file, so that a body of any shape costs little memory and time."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO

_BLOCK = 64 * 1024
_FIRST_WINDOW = 4 * 1024
_SPACE = b" \t\n\r"  # RFC 8259, section 2
_BOM = b"\xef\xbb\xbf"  # which some editors and shells put in front (section 8.1: a parser may ignore it)


class NotJson(ValueError):
    """The text is no JSON; the message says what was expected."""


class TooLong(ValueError):
    """A value has more bytes than it may have."""


class JsonReader:
    """Takes values from the front of a JSON text, which is read from `file` in blocks.

    Args:
        longest: bytes that one value may have.
    """

    def __init__(self, file: IO[bytes], longest: int) -> None:
        self._file = file
        self._longest = longest
        self._buffer = file.read(_BLOCK).removeprefix(_BOM)
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> bytes:
        """The next byte that is not white space, which stays; empty at the end.

        Raises:
            TooLong: when there is more white space than a value may be long.
        """
        self._buffer = self._buffer.lstrip(_SPACE)
        skipped = 0
        while not self._buffer and self._fill():
            skipped += len(self._buffer)
            if skipped > max(self._longest, 2 * _BLOCK):
                raise TooLong(f"more than {self._longest} bytes of white space")
            self._buffer = self._buffer.lstrip(_SPACE)
        return self._buffer[:1]

    def take(self, expected: bytes) -> None:
        """Pass the next byte.

        Raises:
            NotJson: when it is another one.
        """
        if self.peek() != expected:
            raise NotJson(f"{expected.decode()} is missing")
        self._buffer = self._buffer[1:]

    def value(self) -> bytes:
        """The text of the next value.

        Raises:
            NotJson, TooLong
        """
        self.peek()
        window = _FIRST_WINDOW
        while True:
            while len(self._buffer) < window and self._fill():
                pass
            whole = self._ended and len(self._buffer) <= window
            if (end := self._end_of_value(self._buffer[:window], whole)) is not None:
                taken, self._buffer = self._buffer[:end], self._buffer[end:]
                return taken
            if window >= self._longest:
                raise TooLong(f"must be at most {self._longest} bytes of JSON")
            window = min(window * 4, self._longest)

    def line(self) -> bytes:
        """The rest of the line.

        Raises:
            TooLong
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > self._longest:
                break
            if not self._fill():
                end = len(self._buffer)
                break
        if end < 0 or end > self._longest:
            raise TooLong(f"must be at most {self._longest} bytes of JSON")
        taken, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return taken

    def _fill(self) -> bool:
        block = self._file.read(_BLOCK)
        self._ended = not block
        self._buffer += block
        return bool(block)

    def _end_of_value(self, data: bytes, whole: bool) -> int | None:
        """How many bytes the first value has; None when it may go on behind `data`, which is not the whole rest."""
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
            end = self._decode(text)[1]
        except UnicodeDecodeError as error:
            raise NotJson("it is not UTF-8") from error
        except RecursionError as error:
            raise NotJson("it is nested too deeply") from error
        except ValueError as error:
            if whole:
                raise NotJson("a value is no JSON") from error
            return None
        if end == len(text) and not whole:
            return None  # of a number, more digits may follow
        return len(text[:end].encode())


def object_items(file: IO[bytes], longest: int) -> Iterator[bytes]:
    """The text of each element of `{"items": [...]}`.

    Raises:
        NotJson: the items before the fault have been yielded then.
        KeyError: with the name of another member of the object, or "items" when there is no such list.
        TooLong: an element has more than `longest` bytes.
    """
    reader = JsonReader(file, longest)
    if reader.peek() != b"{":
        reader.value()
        raise KeyError("items")
    reader.take(b"{")
    name = json.loads(_string(reader)) if reader.peek() != b"}" else None
    if name != "items":
        raise KeyError(name or "items")
    reader.take(b":")
    if reader.peek() != b"[":
        raise KeyError("items")
    reader.take(b"[")
    if reader.peek() == b"]":
        reader.take(b"]")
    else:
        yield reader.value()
        while reader.peek() == b",":
            reader.take(b",")
            yield reader.value()
        reader.take(b"]")
    if reader.peek() == b",":
        reader.take(b",")
        raise KeyError(json.loads(_string(reader)))
    reader.take(b"}")
    if reader.peek():
        raise NotJson("something follows")


def _string(reader: JsonReader) -> bytes:
    if reader.peek() != b'"':
        raise NotJson("a name is missing")
    return reader.value()


def lines(file: IO[bytes], longest: int) -> Iterator[bytes]:
    """Each line that is not blank.

    Raises:
        TooLong: a line has more than `longest` bytes.
    """
    reader = JsonReader(file, longest)
    while reader.peek():
        yield reader.line()
