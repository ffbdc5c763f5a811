"""The command line against a running service: what each command prints, and how it refuses."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import dataclass

import httpx
import pytest

from jobs.record import State
from panoramas.cli import main
from panoramas.cli.client import AT_ONCE
from panoramas.cli.common import connected
from testkit.command_line import OURS, run
from testkit.http import batch_items, jobs_made
from testkit.processes import free_port
from testkit.workerless import WorkerlessApi

ID = re.compile(r"[0-9a-f]{32}")


def test_a_job_that_fails_is_named_with_its_reason(workerless: WorkerlessApi) -> None:
    record = workerless.claim(workerless.submit()["id"])
    fault = {"type": "urn:test", "title": "A fault", "status": 500, "detail": "because"}
    workerless.claims.finish(record.id, record.token, State.FAILED, error=fault)
    done = run("wait", record.id, "--url", workerless.stack.url)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"panoramas: job {record.id}: because")


@pytest.mark.slow
def test_submit_list_models_and_delete_do_what_they_say(workerless: WorkerlessApi) -> None:
    url = ["--url", workerless.stack.url]
    job = json.loads(run("submit", "hills\x9b31m", "--seed", "5", "--priority", "batch", *OURS, *url).stdout)
    assert (job["state"], job["input"]["seed"], job["priority"]) == ("queued", 5, "batch")
    listed = run("list", "--state", "queued", "--limit", "1", *url)
    assert listed.stdout.startswith(job["id"])
    assert "\x9b" not in listed.stdout
    assert run("list", "--limit", "1", *url, PYTHONIOENCODING="ascii").returncode == 0
    (line,) = run("list", "--json", "--limit", "1", *url).stdout.splitlines()
    assert json.loads(line)["id"] == job["id"]
    batch = workerless.http.post("/batches", json={"items": batch_items(3)}).json()
    assert len(run("list", "--batch", batch["id"], *url).stdout.splitlines()) == 3
    assert json.loads(run("models", *url).stdout)["items"][0]["name"] == "tiny"
    assert json.loads(run("cancel", job["id"], *url).stdout)["state"] == "canceled"
    other = workerless.done()
    done = run("delete", job["id"], other["id"], *url)
    assert (done.returncode, len(ID.findall(done.stderr))) == (0, 2)
    assert workerless.http.get(f"/jobs/{other['id']}/image").status_code == 410
    assert run("delete", batch["id"], *url).returncode == 1


def test_submit_under_a_key_makes_one_job(workerless: WorkerlessApi) -> None:
    before = jobs_made(workerless.stack)
    command = ["submit", "hills", "--idempotency-key", f"key-{before}-{os.getpid()}", "--url", workerless.stack.url]
    assert run(*command).stdout == run(*command).stdout
    assert jobs_made(workerless.stack) == before + 1


@dataclass
class InProcess:
    """The command line in this process, for commands that end before they do anything: a process takes a second."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *command: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["panoramas", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *self.capsys.readouterr()


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    return InProcess(monkeypatch, capsys)


@pytest.mark.parametrize("command", [["status", "a"], ["cancel", "a"], ["delete", "a"], ["list"], ["models"]])
def test_a_service_that_is_not_there_is_told_at_once(in_process: InProcess, command: list[str]) -> None:
    start = time.monotonic()
    status, printed, told = in_process(*command, "--url", f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - start < 15, "it tried for a minute"
    assert (status, printed) == (1, "")
    assert "does not respond" in told
    assert told.count("\n") == 1


def test_a_service_that_hangs_is_given_up_soon_by_commands_that_only_look() -> None:
    for patience, seconds in ((AT_ONCE, 10), (60.0, 30)):
        with connected("http://host", "", patience) as client:
            assert client._connection.timeout == httpx.Timeout(seconds)


def test_a_command_that_waits_for_the_service_says_so(in_process: InProcess) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    status, _, told = in_process("submit", "hills", "--patience", "1", "--url", url)
    assert (status, "trying again for up to 1 s" in " ".join(told.split())) == (1, True), told


@pytest.mark.parametrize(
    ("command", "environment", "told"),
    [
        (["status", "a", "--url", "http://127.0.0.1:99999"], {}, "--url (PANORAMAS_URL): a port is a number"),
        (["list", "--url", "localhost:8000"], {}, "http:// or https://"),
        (["models"], {"PANORAMAS_URL": "ftp://host"}, "PANORAMAS_URL"),
        (["models", "--api-key", "schlüssel-5ecret"], {}, "--api-key (PANORAMAS_API_KEY): character 5 is not"),
        (["generate", "hills"], {"PANORAMAS_API_KEY": "5ecret\nb"}, "--api-key (PANORAMAS_API_KEY): character 7"),
        (["batch", "README.md", "-o", "x"], {"PANORAMAS_API_KEY": "5ecret\n"}, "begins or ends"),
        (["models"], {"ALL_PROXY": "nonsense://proxy"}, "ALL_PROXY"),
        (["status", "../batches/a"], {}, "is not the id of a job"),
        (["submit", "hills", "--idempotency-key", ""], {}, "idempotency_key: is empty"),
        (["up", "--port", "99999"], {}, "--port"),
        (["api", "--port", "-1"], {}, "--port"),
        (["list", "--limit", "0"], {}, "--limit"),
    ],
)
def test_an_argument_that_cannot_be_used_is_a_sentence_and_status_two(
    in_process: InProcess, command: list[str], environment: dict[str, str], told: str
) -> None:
    for name, value in environment.items():
        in_process.monkeypatch.setenv(name, value)
    status, printed, errors = in_process(*command)
    assert (status, printed, told in errors) == (2, "", True), errors
    assert "5ecret" not in errors


def test_a_bad_port_of_the_environment_is_a_sentence_and_status_two() -> None:
    done = run("up", PANORAMAS_PORT="99999")
    assert (done.returncode, "PANORAMAS_PORT" in done.stderr) == (2, True), done.stderr


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"panoramas \d+\.\d+\.\d+\n", run("--version").stdout)
