"""Where a command puts a picture: checked before the painting, in the format of the name, and never lost."""

from __future__ import annotations

import io
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from jobs.record import State
from panoramas import InvalidArgumentError
from panoramas.cli.output import Output
from panoramas.formats import format_of
from testkit.command_line import HERE, OURS, SMALL, arguments, look_at, newest, run
from testkit.http import jobs_made
from testkit.processes import Stack, files_cannot_grow
from testkit.workerless import WorkerlessApi


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
        assert done.stdout.startswith(f"{tmp_path / name}: 256x136, seed 7")
        assert done.stdout.count("\n") == 1
    assert [format_of(Path(name)) for name in ("a.png", "a.jpeg", "a.jpg", "a.avif")] == ["png", "jpeg", "jpeg", "avif"]


def test_a_picture_too_large_for_its_format_is_saved_as_a_png(workerless: WorkerlessApi, tmp_path: Path) -> None:
    record, buffer = workerless.claim(workerless.submit()["id"]), io.BytesIO()
    Image.new("RGB", (17_000, 8)).save(buffer, "PNG")
    stored = workerless.store.put(record.id, record.token, buffer.getvalue())
    result = {"key": stored.key, "sha256": stored.sha256, "bytes": stored.bytes, "width": 17_000, "height": 8}
    workerless.claims.finish(record.id, record.token, State.SUCCEEDED, result=result, timings={})
    done = run("wait", record.id, "-o", str(tmp_path / "x.webp"), "--url", workerless.stack.url, cwd=tmp_path)
    assert (done.returncode, "has no webp of this picture" in done.stderr) == (1, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"panorama-{record.id}.png"]
    assert look_at(tmp_path / f"panorama-{record.id}.png") == ("PNG", (17_000, 8))


def test_a_dash_is_standard_output_and_a_png_is_painted_again(stack: Stack, tmp_path: Path) -> None:
    for flags, form in (([], "PNG"), (["--format", "webp"], "WEBP")):
        done = run("generate", "hills", "-o", "-", *flags, "--url", stack.url, *SMALL, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (tmp_path / "out").write_bytes(done.stdout.encode("latin-1"))
        assert look_at(tmp_path / "out") == (form, (128, 128))
        assert "standard output: 128x128" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    png = tmp_path / "first.png"
    assert run("generate", "hills", "-o", str(png), "--url", stack.url, *SMALL).returncode == 0
    done = run("repaint", str(png), "-o", str(tmp_path / "again.png"), "--url", stack.url)
    assert done.returncode == 0, done.stderr
    with Image.open(png) as first, Image.open(tmp_path / "again.png") as again:
        assert first.tobytes() == again.tobytes()
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


def test_standard_output_that_is_closed_is_told_before_anything_is_painted(workerless: WorkerlessApi) -> None:
    before = jobs_made(workerless.stack)
    command = " ".join(arguments("generate", "hills", "-o", "-", "--url", workerless.stack.url))
    done = subprocess.run(["bash", "-c", f"{command} >&-"], stderr=subprocess.PIPE, text=True, env=HERE)
    assert (done.returncode, "is closed" in done.stderr) == (2, True), done.stderr
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
