"""What a field of a request is, wherever it is offered: its type, range, default and help."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

_METADATA_KEY = "recipe"

MAX_PROMPT_CHARS = 2000
# Text in a PNG cannot hold U+0000, XML metadata no other control character but tab and line ends, UTF-8 no surrogate.
TEXT_PATTERN = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f]*$"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field as every interface offers it.

    Args:
        kind: type of its value.
        help: what it means, for people: the wire schema's description.
        flag: the original's name of it on the command line; by default the field's own.
        required: it has no default.
        nullable: null (or absent) asks for the model's default, or what `help` says.
        since_first: jobs of the first release have it already; later fields have a default when an old job is read.
        minimum, maximum: inclusive range of a number.
        max_length: of a text, in characters.
        choices: all values of a text.
        as_null: numbers that other programs send for null.
        max_items: the value is a list of at most so many of `kind`, a dataclass whose fields are described as here.
    """

    kind: type
    help: str
    flag: str = ""
    required: bool = False
    nullable: bool = True
    since_first: bool = True
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    choices: tuple[str, ...] = ()
    as_null: tuple[int, ...] = ()
    max_items: int | None = None

    def type_fault(self, value: Any) -> str | None:
        """What is wrong with the type of a value that was read from JSON; None for null, and where nothing is."""
        if value is None:
            return None
        if self.max_items is not None:
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                return "must be a list of objects"
            parts = fields_of(self.kind)
            faults = (
                f"{index}: {name}: {fault}"
                for index, item in enumerate(value)
                for name, part in item.items()
                if (fault := parts[name].type_fault(part) if name in parts else "unknown field")
            )
            return next(faults, None)
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}; not {value!r}"
        kinds = (int, float) if self.kind is float else (self.kind,)
        return None if type(value) in kinds else f"must be of type {self.kind.__name__}, not {type(value).__name__}"

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value, or None. The items of a list have faults of their own."""
        if self.max_items is not None:
            return None if len(value) <= self.max_items else f"must be at most {self.max_items}, not {len(value)}"
        if self.kind is str:
            return self._text_fault(value)
        if self.kind is float and not math.isfinite(value):
            return "must be a finite number"
        low, high = self.minimum, self.maximum
        if (low is None or value >= low) and (high is None or value <= high):
            return None
        if self.kind is float:
            return f"must be between {low:g} and {high:g}, not {value:g}"
        return f"must be at least {low}, not {value}" if value < (low or 0) else f"must be at most {high}, not {value}"

    def _text_fault(self, text: str) -> str | None:
        if self.choices:
            return None if text in self.choices else f"must be one of {', '.join(self.choices)}; not {text!r}"
        if self.required and not text.strip():
            return "must not be empty"
        if self.max_length is not None and len(text) > self.max_length:
            return f"must be at most {self.max_length} characters, not {len(text)}"
        if found := _UNPRINTABLE.search(text):
            where = f"U+{ord(found[0]):04X} (at index {found.start()})"
            return f"must not contain {where}: a picture's metadata cannot hold it"
        return None


def described_field(default: Any, **described: Any) -> Any:
    """A dataclass field with its description, the arguments of `Field`; `...` as the default makes it required."""
    described.setdefault("required", default is ...)
    metadata = {_METADATA_KEY: Field(**described)}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


def fields_of(described: type) -> Mapping[str, Field]:
    """The described fields of a dataclass by name, in their order."""
    return MappingProxyType({each.name: each.metadata[_METADATA_KEY] for each in fields(described)})


def defaults_of(described: type) -> Mapping[str, Any]:
    """Their defaults by name; the required ones have none."""
    known = fields_of(described)
    return MappingProxyType({each.name: each.default for each in fields(described) if not known[each.name].required})
