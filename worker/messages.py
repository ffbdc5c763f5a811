"""Typed messages between the worker and its model process, and the only code that reads and writes them.

On the pipe a message is one frame of JSON, followed by one frame of raw bytes for each attachment that the JSON lists.
Fields that hold bytes travel as attachments, in both directions.

The worker sends commands: `Paint` starts a job, `Stop` ends it at the next step. Closing the pipe ends the process.
The model process sends reports: `Ready` once; `Loaded` or `Unavailable` for each model it loads; and for each job some
of `Phase`, `Step` and `Preview`, then exactly one of `Done`, `Interrupted`, `Failed` and `Unavailable`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError

T = TypeVar("T")


class MessageError(Exception):
    """What arrived is not a message of the expected direction: unknown, malformed, or not JSON."""


def _require_bytes(value: object) -> object:
    if not isinstance(value, bytes | memoryview):
        raise ValueError("should be bytes")
    return value


# A memoryview is sent without a copy of a picture of tens of megabytes; what is received is always bytes.
Bytes = Annotated[bytes | memoryview, PlainValidator(_require_bytes)]


class _Message:
    """What all messages have in common: reading checks the types, and an unknown field is an error."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Paint(_Message):
    """Paint one job. `pictures` are the pictures that `input` refers to, by their ids."""

    job_id: str
    input: dict[str, Any]
    pictures: dict[str, Bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Stop(_Message):
    """End the running job at its next step. Ignored while no job runs."""


@dataclass(frozen=True, slots=True)
class DeviceMemory(_Message):
    """Bytes on a model's GPU: held by tensors, held by PyTorch's allocator, the job's peak, and the GPU's total."""

    device: str
    allocated: int
    reserved: int
    peak: int
    total: int


@dataclass(frozen=True, slots=True)
class Ready(_Message):
    """The process has started, and its default model is loaded or is known to be unavailable."""


@dataclass(frozen=True, slots=True)
class Loaded(_Message):
    """A model was loaded and warmed up in `seconds`."""

    model: str
    seconds: float
    memory: DeviceMemory | None = None


@dataclass(frozen=True, slots=True)
class Unavailable(_Message):
    """This process cannot load a model, for `reason`. Sent for a job, it ends that job; another worker may paint it."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Phase(_Message):
    """A phase of the job begins: loading, encoding, denoising or decoding."""

    name: str


@dataclass(frozen=True, slots=True)
class Step(_Message):
    """`step` of `total_steps` denoising steps are done."""

    step: int
    total_steps: int


@dataclass(frozen=True, slots=True)
class Preview(_Message):
    """A small JPEG of the unfinished canvas after `step`."""

    step: int
    image: Bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Done(_Message):
    """The picture: `height` x `width` pixels of 3 bytes. `timings` are seconds by phase.

    `made_with` is what beside the recipe decides the pixels (`engine.picture.provenance`).
    """

    image: Bytes = field(repr=False)
    width: int
    height: int
    total_steps: int
    timings: dict[str, float]
    notices: list[dict[str, str]]
    revision: str
    memory: DeviceMemory | None = None
    made_with: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interrupted(_Message):
    """The job was ended by `Stop`."""


@dataclass(frozen=True, slots=True)
class Failed(_Message):
    """The job failed. `final`: another attempt would fail in the same way."""

    reason: str
    detail: str
    final: bool = False


Command = Paint | Stop
Report = Ready | Loaded | Unavailable | Phase | Step | Preview | Done | Interrupted | Failed

_COMMANDS: dict[str, TypeAdapter[Command]] = {kind.__name__: TypeAdapter(kind) for kind in (Paint, Stop)}
_REPORTS: dict[str, TypeAdapter[Report]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (Ready, Loaded, Unavailable, Phase, Step, Preview, Done, Interrupted, Failed)
}


@dataclass(frozen=True, slots=True)
class _Header(_Message):
    """The frame of JSON. An attachment is a field's name, and the key within it where the field is a dictionary."""

    kind: str
    fields: dict[str, Any]
    attachments: list[tuple[str, str | None]]


_HEADER = TypeAdapter(_Header)


def send(connection: Connection, message: Command | Report) -> None:
    """Write one message.

    Raises:
        OSError: when the other process is gone.
    """
    fields: dict[str, Any] = {}
    attachments: list[tuple[str, str | None]] = []
    frames: list[bytes | memoryview] = []
    for entry in dataclasses.fields(message):
        value = getattr(message, entry.name)
        match value:
            case bytes() | memoryview():
                attachments.append((entry.name, None))
                frames.append(value)
            case dict() if value and all(isinstance(item, bytes | memoryview) for item in value.values()):
                attachments += [(entry.name, key) for key in value]
                frames += value.values()
            case _:
                fields[entry.name] = value
    header = {"kind": type(message).__name__, "fields": fields, "attachments": attachments}
    connection.send_bytes(json.dumps(header, default=dataclasses.asdict).encode())
    for frame in frames:
        connection.send_bytes(frame)


def receive_command(connection: Connection) -> Command:
    """The next message from the worker, waiting for it.

    Raises:
        MessageError: when it is not a command.
        EOFError, OSError: when the worker is gone.
    """
    return _receive(connection, _COMMANDS)


def receive_report(connection: Connection) -> Report:
    """The next message from the model process, waiting for it.

    Raises:
        MessageError: when it is not a report.
        EOFError, OSError: when the model process is gone.
    """
    return _receive(connection, _REPORTS)


def _receive(connection: Connection, known: Mapping[str, TypeAdapter[T]]) -> T:
    try:
        header = _HEADER.validate_json(connection.recv_bytes())
    except ValidationError as error:
        raise MessageError(f"not a message: {_summary(error)}") from error
    if header.kind not in known:
        raise MessageError(f"unknown message {header.kind!r}")
    values = dict(header.fields)
    for name, key in header.attachments:
        frame = connection.recv_bytes()
        if key is None:
            values[name] = frame
            continue
        group = values.setdefault(name, {})
        if not isinstance(group, dict):
            raise MessageError(f"malformed message {header.kind}: {name} has attachments and is not a dictionary")
        group[key] = frame
    try:
        return known[header.kind].validate_python(values)
    except ValidationError as error:
        raise MessageError(f"malformed message {header.kind}: {_summary(error)}") from error


def _summary(error: ValidationError) -> str:
    """Where and what, without the values: they may hold a user's prompt or a whole picture."""
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'message'}: {item['msg']}" for item in found)
