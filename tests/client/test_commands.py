"""The command line against a running service: what Ctrl-C does, where pictures go, and what each command prints."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from panoramas import InvalidArgumentError
from panoramas.cli.output import Output
from panoramas.formats import format_of
from testkit.answers import answering
from testkit.http import batch_items, jobs_made
from testkit.processes import ROOT, Stack, eventually, files_cannot_grow, free_port
from testkit.workerless import WorkerlessApi

SMALL = "--width 128 --height 128 --steps 1".split()
OURS = "--width 256 --height 136 --steps 5".split()
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}  # commands that run in another folder import this checkout
ID = re.compile(r"[0-9a-f]{32}")


def arguments(*command: str) -> list[str]:
    return [sys.executable, "-m", "panoramas", *command]


def run(
    *command: str, cwd: Path = ROOT, stdin: bytes | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command with what it printed. A traceback is a failure of the test."""
    done = subprocess.run(
        arguments(*command), cwd=cwd, input=stdin, capture_output=True, timeout=60, env={**HERE, **environment}
    )
    text = done.stderr.decode()
    assert "Traceback" not in text, text
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode("latin-1"), text)


def look_at(path: Path) -> tuple[str | None, tuple[int, int]]:
    """A picture's format and size, if all of it is there."""
    with Image.open(path) as picture:
        picture.load()
        return picture.format, picture.size


@contextmanager
def started(*command: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        arguments(*command), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=HERE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def newest(workerless: WorkerlessApi, before: int) -> dict[str, Any]:
    """The job that a command has submitted."""
    eventually(lambda: jobs_made(workerless.stack) > before, 30, "a job is submitted")
    return workerless.http.get("/jobs?limit=1").json()["items"][0]


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The status and standard error of a command that shows progress, after Ctrl-C."""
    time.sleep(1)  # it follows the job
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def test_ctrl_c_of_wait_cancels_nothing_and_says_so(workerless: WorkerlessApi) -> None:
    job = workerless.submit()
    with started("wait", job["id"], "--url", workerless.stack.url) as process:
        status, told = interrupted(process)
    assert (status, f"Job {job['id']} continues" in told) == (130, True), told
    assert workerless.get(job["id"])["state"] == "queued"


def test_ctrl_c_of_generate_cancels_its_own_job_and_says_so(workerless: WorkerlessApi, tmp_path: Path) -> None:
    before = jobs_made(workerless.stack)
    out = tmp_path / "out.png"
    with started("generate", "hills", "-o", str(out), "--url", workerless.stack.url, *OURS) as process:
        job = newest(workerless, before)
        status, told = interrupted(process)
    assert (status, f"job {job['id']} is canceled" in told) == (130, True), told
    assert workerless.get(job["id"])["state"] == "canceled"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_of_generate_under_a_key_leaves_the_job_for_the_next_time(
    workerless: WorkerlessApi, tmp_path: Path
) -> None:
    before = jobs_made(workerless.stack)
    command = ["generate", "hills", "-o", "out.png", "--url", workerless.stack.url, *OURS]
    command += ["--idempotency-key", str(tmp_path.name)]
    with started(*command, cwd=tmp_path) as process:
        job = newest(workerless, before)
        status, told = interrupted(process)
    assert (status, "continues" in told) == (130, True), told
    workerless.succeed(workerless.claim(job["id"]))
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert jobs_made(workerless.stack) == before + 1
    assert look_at(tmp_path / "out.png")[1] == (256, 136)


def test_ctrl_c_of_generate_when_the_service_is_gone_says_what_to_do(tmp_path: Path) -> None:
    with answering() as answers:
        job = {"id": "a" * 32, "state": "queued"}
        answers.status, answers.body = 202, json.dumps(job).encode()
        with started("generate", "hills", "-o", str(tmp_path / "out.png"), "--url", answers.url) as process:
            eventually(lambda: answers.paths, 20, "it has submitted")
            answers.status, answers.body = 500, b""
            answers.status = 503
            status, told = interrupted_twice(process)
    assert (status, "was not canceled" in told) == (130, True), told
    assert f"panoramas cancel {'a' * 32}" in told


def interrupted_twice(process: subprocess.Popen[str]) -> tuple[int, str]:
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)  # it tries to cancel
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def test_a_target_that_cannot_be_written_is_told_before_anything_is_painted(
    workerless: WorkerlessApi, tmp_path: Path
) -> None:
    before = jobs_made(workerless.stack)
    for command in (["generate", "hills"], ["wait", "0" * 32]):
        done = run(*command, "-o", str(tmp_path), "--url", workerless.stack.url)
        assert (done.returncode, "is a folder" in done.stderr) == (2, True), done.stderr
    assert jobs_made(workerless.stack) == before


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("folder", "is a folder"),
        ("none/", "is a folder"),
        ("none/out.png", "does not exist"),
        ("file.png/out.png", "is not a folder"),
        ("out.gif", "one of .png, .webp, .jpg, .jpeg, .avif"),
        ("out", "without an extension"),
        ("", "is a folder"),
        ("loop.png", "cannot be written"),
        ("dangling.png", "does not exist"),
        (f"{'a' * 300}.png", "cannot be written"),
        ("/proc/out.png", "cannot be written"),
    ],
)
def test_a_target_is_checked_without_leaving_anything_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, reason: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.png").touch()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to("none/out.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError, match=reason):
        Output.of(target)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_name_and_a_format_go_together(tmp_path: Path) -> None:
    assert Output.of(str(tmp_path / "out"), "webp").format == "webp"
    assert Output.of(str(tmp_path / "out.webp"), "webp").format == "webp"
    assert Output.of("/dev/null") == Output(Path("/dev/null"), "png")
    for target, form in ((str(tmp_path / "out.png"), "webp"), ("-", "gif"), (str(tmp_path / "out"), "gif")):
        with pytest.raises(InvalidArgumentError, match="format"):
            Output.of(target, form)


def generate_while(
    workerless: WorkerlessApi, folder: Path, target: str, change: Callable[[subprocess.Popen[str]], Any]
) -> tuple[str, int, str]:
    """`generate -o target` in `folder`; `change` is called before the picture is there. Id, status, messages."""
    before = jobs_made(workerless.stack)
    environment = {**HERE, "HOME": str(folder), "TMPDIR": str(folder)}
    command = arguments("generate", "hills", "-o", target, "--url", workerless.stack.url, *OURS)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, text=True, env=environment, **pipes) as process:  # type: ignore[call-overload]
        job = newest(workerless, before)
        undo = change(process)
        workerless.succeed(workerless.claim(job["id"]))
        errors = process.communicate(timeout=30)[1]
        if undo:
            undo()
    assert "Traceback" not in errors, errors
    return job["id"], process.returncode, errors


def test_a_picture_whose_folder_is_gone_meanwhile_is_saved_elsewhere(workerless: WorkerlessApi, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    job, status, told = generate_while(
        workerless, tmp_path, "folder/out.png", lambda process: (tmp_path / "folder").rmdir()
    )
    saved = tmp_path / f"panorama-{job}.png"
    assert (status, f"saved as {saved}" in told) == (1, True), told
    assert look_at(saved)[1] == (256, 136)


def test_a_picture_that_no_disk_takes_stays_at_the_service_and_the_old_file_as_it_was(
    workerless: WorkerlessApi, tmp_path: Path
) -> None:
    (tmp_path / "out.png").write_bytes(b"old")

    def fill(process: subprocess.Popen[str]) -> Callable[[], None]:
        full = files_cannot_grow(psutil.Process(process.pid))
        full.__enter__()
        return lambda: full.__exit__(None, None, None)  # type: ignore[return-value]

    job, status, told = generate_while(workerless, tmp_path, "out.png", fill)
    assert (status, f"`panoramas wait {job} -o FILE` fetches it" in told) == (1, True), told
    assert (tmp_path / "out.png").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert run("wait", job, "-o", str(tmp_path / "out.png"), "--url", workerless.stack.url).returncode == 0
    assert look_at(tmp_path / "out.png")[1] == (256, 136)


def test_an_existing_file_keeps_its_mode_and_a_link_stays_a_link(workerless: WorkerlessApi, tmp_path: Path) -> None:
    file, link = tmp_path / "file.png", tmp_path / "link.png"
    file.touch(0o640)
    link.symlink_to(file)
    job = workerless.done()
    assert run("wait", job["id"], "-o", str(link), "--url", workerless.stack.url).returncode == 0
    assert link.is_symlink()
    assert (look_at(file)[1], file.stat().st_mode & 0o777) == ((256, 136), 0o640)


def test_the_format_follows_the_extension(workerless: WorkerlessApi, tmp_path: Path) -> None:
    job = workerless.done()
    for name, form in (("x.webp", "WEBP"), ("x.JPG", "JPEG")):
        done = run("wait", job["id"], "-o", str(tmp_path / name), "--url", workerless.stack.url)
        assert done.returncode == 0, done.stderr
        assert look_at(tmp_path / name)[0] == form
    assert [format_of(Path(name)) for name in ("a.png", "a.jpeg", "a.jpg", "a.avif")] == ["png", "jpeg", "jpeg", "avif"]


def test_a_dash_is_standard_output_with_the_messages_beside_it(stack: Stack, tmp_path: Path) -> None:
    for flags, form in (([], "PNG"), (["--format", "webp"], "WEBP")):
        done = run("generate", "hills", "-o", "-", *flags, "--url", stack.url, *SMALL, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (tmp_path / "out").write_bytes(done.stdout.encode("latin-1"))
        assert look_at(tmp_path / "out") == (form, (128, 128))
        assert "standard output: 128x128" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    refused = run("generate", "hills", "-o", "-", "--format", "gif", "--url", stack.url)
    assert (refused.returncode, "one of png" in refused.stderr) == (2, True)


def test_bytes_are_not_written_to_a_terminal(workerless: WorkerlessApi) -> None:
    before = jobs_made(workerless.stack)
    ours, theirs = pty.openpty()
    command = arguments("generate", "hills", "-o", "-", "--url", workerless.stack.url)
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=30)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, "is a terminal" in done.stderr) == (2, True), done.stderr
    assert jobs_made(workerless.stack) == before


def test_a_reader_that_has_gone_does_not_lose_the_picture(workerless: WorkerlessApi, tmp_path: Path) -> None:
    job = workerless.done()
    command = f"{' '.join(arguments('wait', job['id'], '-o', '-', '--url', workerless.stack.url))} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=HERE,
        timeout=30,
    )
    assert (done.returncode, "Traceback" in done.stderr, "Exception" in done.stderr) == (1, False, False), done.stderr
    assert look_at(tmp_path / f"panorama-{job['id']}.png")[1] == (256, 136)


def test_submit_list_models_and_delete_do_what_they_say(workerless: WorkerlessApi) -> None:
    url = ["--url", workerless.stack.url]
    job = json.loads(run("submit", "hills\x9b31m", "--seed", "5", "--priority", "batch", *OURS, *url).stdout)
    assert (job["state"], job["input"]["seed"], job["priority"]) == ("queued", 5, "batch")
    listed = run("list", "--state", "queued", "--limit", "1", *url)
    assert listed.stdout.startswith(job["id"])
    assert "\x9b" not in listed.stdout
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


@pytest.mark.parametrize("command", [["status", "a"], ["cancel", "a"], ["delete", "a"], ["list"], ["models"]])
def test_a_service_that_is_not_there_is_told_at_once(command: list[str]) -> None:
    start = time.monotonic()
    done = run(*command, "--url", f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - start < 15, "a busy machine starts Python slowly; it waited for a minute"
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not respond" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_command_that_waits_for_the_service_says_so() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run("submit", "hills", "--patience", "1", "--url", url)
    assert "trying again for up to 1 s" in done.stderr


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
        (["up"], {"PANORAMAS_PORT": "99999"}, "PANORAMAS_PORT"),
        (["list", "--limit", "0"], {}, "--limit"),
    ],
)
def test_an_argument_that_cannot_be_used_is_a_sentence_and_status_two(
    command: list[str], environment: dict[str, str], told: str
) -> None:
    done = run(*command, **environment)
    assert (done.returncode, done.stdout, told in done.stderr) == (2, "", True), done.stderr
    assert "5ecret" not in done.stderr


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"panoramas \d+\.\d+\.\d+\n", run("--version").stdout)
