"""`panoramas up` and `panoramas demo`: one command runs everything, and nothing of it stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from panoramas import Client, PanoramaParams
from testkit.processes import ROOT, eventually

SMALL: PanoramaParams = {"width": 128, "height": 128, "num_inference_steps": 1}


@contextmanager
def up(folder: Path, model: Path, *flags: str, cwd: Path = ROOT) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`panoramas up` on a free port, with its address."""
    log = folder / "up.log"
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, *flags, "-m", "panoramas", "up", "--port", "0", "--data-dir", str(folder / "data")],
            env={**os.environ, "PANORAMAS_MODELS": f"tiny={model}", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            cwd=cwd,
        )
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+?:\d+", process.stdout.readline())
        assert found, log.read_text()
        yield process, found[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_ctrl_c_ends_everything_and_the_jobs_are_still_there_next_time(tmp_path: Path, tiny_model: Path) -> None:
    with up(tmp_path, tiny_model) as (process, url), Client(url) as client:
        job = client.wait(client.submit("mountains", **SMALL))
        members = family(process)
        assert len(members) >= 5, "Redis, the API, the worker, its model process, and who calls webhooks"
        secret = tmp_path / "data" / "webhook-secret"
        assert secret.read_text().startswith("whsec_")
        assert secret.read_text().strip() not in httpx.get(f"{url}/webhooks/secret").text
        assert secret.stat().st_mode & 0o077 == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert all_gone(members)
    with up(tmp_path, tiny_model) as (_, url), Client(url) as client:
        assert client.image(client.get(job)).startswith(b"\x89PNG")


def test_a_killed_supervisor_leaves_no_process_behind(tmp_path: Path, tiny_model: Path) -> None:
    with up(tmp_path, tiny_model) as (process, _):
        members = eventually(lambda: found if len(found := family(process)) >= 4 else None, 30, "all are started")
        process.kill()
        eventually(lambda: all_gone(members), 15, "the processes follow their supervisor")


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_role_that_dies_is_started_again(tmp_path: Path, tiny_model: Path, role: str) -> None:
    with up(tmp_path, tiny_model) as (process, url):
        victim = next(
            member for member in family(process) if member.cmdline()[-1:] == [role] or role in member.cmdline()
        )
        victim.kill()
        with Client(url) as client:
            job = client.wait(client.submit("mountains", **SMALL))
        assert job.state == "succeeded"


def test_a_server_that_dies_is_started_again_on_its_data_and_finishes_what_was_accepted(
    tmp_path: Path, tiny_model: Path
) -> None:
    with up(tmp_path, tiny_model) as (process, url), Client(url) as client:
        before = client.wait(client.submit("mountains", **SMALL))
        running = client.submit("mountains", **{**SMALL, "num_inference_steps": 100})
        server = next(member for member in family(process) if "valkey" in member.name())
        server.kill()
        eventually(lambda: httpx.get(f"{url}/readyz").is_success, 30, "the API is ready again")
        assert client.wait(running).state == "succeeded"
        assert client.image(client.get(before)).startswith(b"\x89PNG")


def test_two_services_never_share_a_data_folder(tmp_path: Path, tiny_model: Path) -> None:
    with up(tmp_path, tiny_model):
        second = subprocess.run(
            [sys.executable, "-m", "panoramas", "up", "--port", "0", "--data-dir", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    assert second.returncode == 1
    assert "in use" in second.stderr
    assert "Traceback" not in second.stderr


def test_folders_of_the_users_named_like_the_servers_packages_are_not_imported(
    tmp_path: Path, tiny_model: Path
) -> None:
    for name in ("service", "jobs", "worker", "engine", "recipe"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported from the working directory')")
    with up(tmp_path, tiny_model, "-P", cwd=tmp_path) as (_, url), Client(url) as client:
        assert client.wait(client.submit("mountains", **SMALL)).state == "succeeded"


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path, tiny_model: Path) -> None:
    with up(tmp_path, tiny_model) as (_, url):
        port = str(httpx.URL(url).port)
        second = subprocess.run(
            [sys.executable, "-m", "panoramas", "up", "--port", port, "--data-dir", str(tmp_path / "other")],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    assert second.returncode == 1
    assert second.stderr.strip().endswith("choose another with --port")


def test_the_demo_command_writes_a_picture_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "panorama.png"
    command = [sys.executable, "-m", "panoramas", "demo", "hills at noon", "--out", str(out), "--width", "512"]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert done.returncode == 0, done.stderr
    assert "512x512" in done.stdout
    with Image.open(out) as picture:
        assert picture.size == (512, 512)
    assert list(temporary.iterdir()) == []
