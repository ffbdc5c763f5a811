"""The real model process with a tiny model, driven through its pipe as the worker drives it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.settings import Settings
from worker.child import ModelProcess, ModelProcessDied
from worker.messages import Done, Interrupted, Loaded, Paint, Phase, Preview, Report, Step, Stop

INPUT: dict[str, Any] = {"prompt": "mountains", "width": 256, "height": 128, "num_inference_steps": 4, "seed": 1}


@pytest.fixture(scope="module")
def environment(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """The settings of a model process with two tiny models."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        environment.setenv("PANORAMAS_MODELS", f"one={tiny_model},two={tiny_model}")
        environment.setenv("PANORAMAS_DEVICE", "cpu")
        environment.setenv("PANORAMAS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield environment


@pytest.fixture(scope="module")
def shared_process(environment: pytest.MonkeyPatch) -> Iterator[ModelProcess]:
    process = ModelProcess()
    yield process
    process.kill()


@pytest.fixture
def process(shared_process: ModelProcess) -> ModelProcess:
    """A ready model process. Starting one takes seconds, so the tests share it."""
    shared_process.ensure_started()
    assert shared_process.wait_ready(120)
    return shared_process


def reports_of(process: ModelProcess, job: Paint) -> list[Report]:
    """What the process reports of a job, until its end."""
    process.send(job)
    reports: list[Report] = []
    while not reports or not isinstance(reports[-1], Done | Interrupted):
        report = process.next_report(60)
        assert report, f"silence after {reports}"
        reports.append(report)
    return reports


def test_each_phase_of_a_job_is_reported_as_it_begins(process: ModelProcess) -> None:
    reports = reports_of(process, Paint("j1", {**INPUT, "model": "one"}))
    others = [report for report in reports if not isinstance(report, Preview)]
    steps = [Step(step, 4) for step in range(1, 5)]
    assert others[:-1] == [Phase("encoding"), Phase("denoising"), *steps, Phase("decoding")]
    done = others[-1]
    assert isinstance(done, Done)
    assert (len(done.image), done.width, done.height, done.total_steps) == (256 * 128 * 3, 256, 128, 4)
    assert done.timings.keys() == {"load", "encode", "denoise", "decode"}
    other = reports_of(process, Paint("j2", {**INPUT, "model": "two"}))
    assert other[0] == Phase("loading")
    assert isinstance(other[1], Loaded)
    assert other[2:4] == [Phase("encoding"), Phase("denoising")]


def test_a_stop_ends_the_job_at_a_step_and_one_that_comes_late_is_ignored(process: ModelProcess) -> None:
    process.send(Stop())
    process.send(Paint("j1", {**INPUT, "model": "one", "num_inference_steps": 200}))
    while process.next_report(60) != Step(1, 200):
        pass
    process.send(Stop())
    while not isinstance(report := process.next_report(60), Interrupted):
        assert isinstance(report, Step | Preview)
        assert not isinstance(report, Step) or report.step < 200
    assert isinstance(reports_of(process, Paint("j2", {**INPUT, "model": "one"}))[-1], Done)


@pytest.mark.usefixtures("environment")
def test_a_process_that_cannot_read_its_worker_ends_and_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    process = ModelProcess()
    process.ensure_started()
    try:
        process._open_connection().send_bytes(b"not a message")
        assert process.wait_ready(120)
        with pytest.raises(ModelProcessDied, match="exited with status 1"):
            process.next_report(60)
        assert "the worker sent: not a message" in capfd.readouterr().err
    finally:
        process.kill()


@pytest.mark.chaos
@pytest.mark.usefixtures("environment")
def test_compiled_kernels_are_kept_in_the_data_folder(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as more:
        more.setenv("PANORAMAS_DATA_DIR", str(tmp_path / "data"))
        more.setenv("PANORAMAS_COMPILE", "true")
        more.setenv("PANORAMAS_VIEW_BATCH_SIZE", "2")
        process = ModelProcess(compiled_folder=Settings().compiled_folder)
    process.ensure_started()
    try:
        assert process.wait_ready(280)
        assert any((tmp_path / "data" / "compiled").rglob("*.so"))
    finally:
        process.kill()


@pytest.mark.parametrize("users_own", [None, "/users/own"])
def test_the_folder_for_compiled_kernels_is_set_before_the_process_starts(
    users_own: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if users_own:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", users_own)
    process = ModelProcess([sys.executable, "-m", "testkit.fake_model"], compiled_folder=tmp_path)
    process.ensure_started()
    try:
        assert process.wait_ready(30)
        assert psutil.Process(process.pid).environ()["TORCHINDUCTOR_CACHE_DIR"] == (users_own or str(tmp_path))
    finally:
        process.kill()
