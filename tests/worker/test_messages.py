"""The messages between the worker and its model process: each arrives as it was sent, and nothing else is accepted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, get_args

import pytest

from worker import messages
from worker.messages import (
    Command,
    DeviceMemory,
    Done,
    Failed,
    Interrupted,
    Loaded,
    MessageError,
    Paint,
    Phase,
    Preview,
    Ready,
    Report,
    Step,
    Stop,
    Unavailable,
    receive_command,
    receive_report,
    send,
)

EVERY_BYTE = bytes(range(256))
MEMORY = DeviceMemory("H100", allocated=1, reserved=2, peak=3, total=80 << 30)
COMMANDS: list[Command] = [
    Paint(
        "j1",
        {"prompt": "Höhen \N{SNOW CAPPED MOUNTAIN}", "seed": 2**32 - 1, "shift_views": None, "guidance_scale": 7.5},
    ),
    Paint("j2", {"image": "a"}, pictures={"a": EVERY_BYTE, "with.a dot": b"", "b": b"{}"}),
    Stop(),
]
REPORTS: list[Report] = [
    Ready(),
    Loaded("tiny", 1.25),
    Loaded("xl", 60, MEMORY),
    Unavailable("xl", "too large"),
    Phase("encoding"),
    Step(3, 50),
    Preview(3, EVERY_BYTE),
    Done(EVERY_BYTE * 3, 16, 16, 50, {"load": 0, "denoise": 1.5}, [{"code": "c", "detail": "d"}], "r1", MEMORY),
    Done(b"", 0, 0, 0, {}, [], "", None),
    Interrupted(),
    Failed("device-error", "CUDA error", final=False),
    Failed("bad-picture", "it is empty", final=True),
]


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("message", COMMANDS, ids=repr)
def test_a_command_arrives_as_it_was_sent(pipe: tuple[Connection, Connection], message: Command) -> None:
    send(pipe[0], message)
    assert receive_command(pipe[1]) == message
    assert not pipe[1].poll(0), "nothing is left in the pipe"


@pytest.mark.parametrize("message", REPORTS, ids=repr)
def test_a_report_arrives_as_it_was_sent(pipe: tuple[Connection, Connection], message: Report) -> None:
    send(pipe[1], message)
    assert receive_report(pipe[0]) == message
    assert not pipe[0].poll(0), "nothing is left in the pipe"


def test_every_message_is_in_the_tests_above() -> None:
    assert {type(message) for message in COMMANDS} == set(get_args(Command))
    assert {type(message) for message in REPORTS} == set(get_args(Report))


def test_a_picture_of_many_megabytes_is_sent_from_its_buffer_and_arrives_as_bytes(
    pipe: tuple[Connection, Connection],
) -> None:
    image = memoryview(bytearray(EVERY_BYTE) * (48 << 12))
    sending = threading.Thread(target=send, args=[pipe[1], Done(image, 8192, 2048, 2, {}, [], "r")])
    sending.start()
    report = receive_report(pipe[0])
    sending.join()
    assert isinstance(report, Done)
    assert isinstance(report.image, bytes)
    assert report.image == image


def frame(kind: str, attachments: list[Any] | None = None, **fields: Any) -> bytes:
    return json.dumps({"kind": kind, "fields": fields, "attachments": attachments or []}).encode()


MALFORMED = {
    "not JSON": b"\x00 not a message",
    "JSON of another kind": b'["Step", 1, 2]',
    "an unknown message": frame("Nonsense"),
    "a message of the other direction": frame("Paint", job_id="j", input={}),
    "a field is missing": frame("Step", step=1),
    "a field is unknown": frame("Step", step=1, total_steps=2, more=3),
    "a field has another type": frame("Step", step="a secret prompt", total_steps=2),
    "bytes are missing": frame("Preview", step=1),
    "text in the place of bytes": frame("Preview", step=1, image="a secret prompt"),
    "bytes in the place of text": frame("Phase", [["name", None]]),
    "bytes within a field that is not a dictionary": frame("Step", [["step", "a"]], step=1, total_steps=2),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_anything_else_is_refused_without_repeating_what_it_holds(
    pipe: tuple[Connection, Connection], sent: bytes
) -> None:
    pipe[1].send_bytes(sent)
    pipe[1].send_bytes(EVERY_BYTE)
    with pytest.raises(MessageError) as caught:
        receive_report(pipe[0])
    assert "secret" not in str(caught.value)


def test_a_report_is_not_a_command(pipe: tuple[Connection, Connection]) -> None:
    send(pipe[0], Ready())
    with pytest.raises(MessageError, match="unknown message 'Ready'"):
        receive_command(pipe[1])


@pytest.mark.parametrize("receive", [messages.receive_command, messages.receive_report])
def test_the_end_of_the_pipe_is_told_from_a_broken_message(
    pipe: tuple[Connection, Connection], receive: Callable[[Connection], object]
) -> None:
    pipe[1].close()
    with pytest.raises(EOFError):
        receive(pipe[0])
