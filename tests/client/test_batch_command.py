"""`panoramas batch`: each line its picture once, whatever is killed, cut, changed or refused."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from jobs import keys
from jobs.record import State
from panoramas.batch.manifest import NAME, Manifest
from panoramas.batch.requests import BatchError, read_requests
from testkit.http import jobs_made
from testkit.processes import ROOT, Stack, eventually, files_cannot_grow
from testkit.proxy import Proxy, proxy_to
from testkit.workerless import WorkerlessApi, running_workerless_api

SMALL = {"prompt": "hills", "width": 128, "height": 128, "num_inference_steps": 1}
FAULT: dict[str, Any] = {"type": "urn:test", "title": "A fault", "status": 500, "detail": "because"}
OURS = {"prompt": "hills", "width": 256, "height": 136, "num_inference_steps": 5}


class Folder:
    """A file of requests, the folder of its pictures, and the command on both."""

    def __init__(self, path: Path, requests: Sequence[dict[str, Any]]) -> None:
        self.requests, self.out = path / "requests.jsonl", path / "out"
        self.write(requests)

    def write(self, requests: Sequence[dict[str, Any]]) -> None:
        self.requests.write_text("".join(json.dumps(request) + "\n" for request in requests))

    @contextmanager
    def started(self, url: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
        """The command at work; killed in the end, if it still is."""
        command = [sys.executable, "-m", "panoramas", "batch", str(self.requests), "-o", str(self.out), "--url", url]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen([*command, *flags], text=True, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
            try:
                yield process
            finally:
                process.kill()

    def run(self, url: str, *flags: str, seconds: float = 60) -> tuple[int, str]:
        with self.started(url, *flags) as process:
            told, errors = process.communicate(timeout=seconds)
        assert "Traceback" not in errors, errors
        return process.returncode, told + errors

    def entries(self, event: str) -> list[dict[str, Any]]:
        path = self.out / NAME
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    def pictures(self) -> list[str]:
        return sorted(path.name for path in self.out.glob("*.png"))


@pytest.fixture
def cut(workerless: WorkerlessApi) -> Iterator[Proxy]:
    with proxy_to(workerless.stack.url) as proxy:
        yield proxy


def queued(workerless: WorkerlessApi, folder: Folder) -> list[str]:
    """The ids of every job of the folder's batches, in the order of their lines."""
    batches = [entry["batch"] for entry in folder.entries("accepted") if entry["batch"]]
    ids: list[str] = []
    for batch in batches:
        ids += workerless.redis.zrange(keys.batch_index(batch), 0, -1)
    return ids


def test_a_run_that_is_killed_again_and_again_paints_and_fetches_each_picture_once(
    stack: Stack, tmp_path: Path
) -> None:
    before = jobs_made(stack)
    folder = Folder(tmp_path, [{**SMALL, "seed": seed, "id": f"hill {seed}"} for seed in range(30)])
    with proxy_to(stack.url) as proxy:
        for aim in (1, 8, 16):
            with folder.started(proxy.url):
                eventually(lambda aim=aim: len(folder.entries("done")) >= aim, 60, "fetched")  # type: ignore[misc]
        status, told = folder.run(proxy.url)
    assert (status, "30 of 30 pictures" in told) == (0, True), told
    assert jobs_made(stack) == before + 30
    done = folder.entries("done")
    assert Counter(entry["line"] for entry in done) == dict.fromkeys(range(1, 31), 1)
    assert folder.pictures() == sorted(f"hill {seed}.png" for seed in range(30))
    for entry in done:
        assert hashlib.sha256((folder.out / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    fetched = sum("/image" in line for line in proxy.requests)
    assert 30 <= fetched <= 30 + 3 * 8, "again only what was on its way when a run was killed"
    assert folder.run(stack.url)[0] == 0, "and there is nothing left to do"
    assert jobs_made(stack) == before + 30


@pytest.mark.slow
def test_a_submit_that_was_killed_or_cut_is_not_made_twice(
    workerless: WorkerlessApi, cut: Proxy, tmp_path: Path
) -> None:
    before = jobs_made(workerless.stack)
    folder = Folder(tmp_path, [{**OURS, "seed": seed} for seed in range(150)])
    with folder.started(cut.url):
        cut.cut_answer(holding=b"/batches/", times=2)
        eventually(lambda: any("/batches" in line for line in cut.requests), 20)
    with folder.started(cut.url) as process:
        eventually(lambda: len(folder.entries("accepted")) == 2, 20, "both chunks are accepted")
        assert jobs_made(workerless.stack) == before + 150
        ids = queued(workerless, folder)
        for job_id in ids[:3]:
            workerless.succeed(workerless.claim(job_id))
        record = workerless.claim(ids[3])
        workerless.claims.finish(record.id, record.token, State.FAILED, error=FAULT)
        eventually(lambda: len(folder.entries("done")) == 3 and folder.entries("failed"), 20, "what has ended is told")
        process.send_signal(signal.SIGINT)
        told, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "Interrupted" in errors
    assert "3 of 150 pictures, 1 failed" in told
    assert folder.pictures() == ["00001.png", "00002.png", "00003.png"]
    (failure,) = map(json.loads, (folder.out / "failures.jsonl").read_text().splitlines())
    assert (failure["line"], failure["job"], failure["error"]["title"]) == (4, ids[3], "A fault")
    assert "146 submitted and not fetched yet" in folder.run(cut.url, "--dry-run")[1]
    workerless.http.post(f"/jobs/{ids[4]}/cancel")
    for batch in {workerless.get(job_id)["batch_id"] for job_id in ids}:
        workerless.http.post(f"/batches/{batch}/cancel")
    status, told = folder.run(cut.url)
    assert (status, "147 failed" in told) == (1, True)
    assert jobs_made(workerless.stack) == before + 150


def test_bad_lines_are_told_the_others_painted_and_mended_ones_can_be_sent_anew(stack: Stack, tmp_path: Path) -> None:
    bad = {**SMALL, "width": 130}
    folder = Folder(tmp_path, [SMALL, bad, {**SMALL, "file": "named.png"}, {"prompt": "", "id": 4}])
    status, told = folder.run(stack.url)
    assert (status, "2 of 4 pictures, 2 failed" in told) == (1, True), told
    assert folder.pictures() == ["00001.png", "named.png"]
    failures = [json.loads(line) for line in (folder.out / "failures.jsonl").read_text().splitlines()]
    assert [(told["line"], told["errors"][0]["pointer"]) for told in failures] == [(2, "#/width"), (4, "#/prompt")]
    assert failures[0]["request"] == bad
    assert folder.run(stack.url)[0] == 1
    assert len(folder.entries("sending")) == 1, "what was refused is not sent again unasked"
    assert folder.run(stack.url, "--retry-failed")[0] == 1
    assert folder.entries("sending")[1]["lines"] == [2, 4]


def test_a_picture_that_is_there_is_not_fetched_and_one_that_is_gone_is(stack: Stack, tmp_path: Path) -> None:
    folder = Folder(tmp_path, [{**SMALL, "seed": seed} for seed in range(3)])
    assert folder.run(stack.url)[0] == 0
    manifest = folder.out / NAME
    *lines, last = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines) + last[:20])  # killed before its last entry was written
    kept = json.loads(last)["line"]
    gone = folder.out / f"{kept % 3 + 1:05d}.png"
    gone.unlink()
    with proxy_to(stack.url) as proxy:
        assert folder.run(proxy.url)[0] == 0
        assert sum("/image" in line for line in proxy.requests) == 1
    with Image.open(gone) as picture:
        assert picture.size == (128, 128)
    assert Counter(entry["line"] for entry in folder.entries("done"))[kept] == 1


def test_a_chunk_larger_than_the_service_lets_wait_is_sent_in_parts(tmp_path: Path) -> None:
    with running_workerless_api(tmp_path, PANORAMAS_MAX_QUEUED="7") as workerless:
        workerless.redis.hset(keys.PACE, "job_ms", 300)
        folder = Folder(tmp_path, [{**OURS, "seed": seed} for seed in range(12)])
        with folder.started(workerless.stack.url) as process:
            for count in (6, 12):
                eventually(lambda count=count: len(queued(workerless, folder)) == count, 20)  # type: ignore[misc]
                for job_id in queued(workerless, folder)[count - 6 :]:
                    workerless.succeed(workerless.claim(job_id))
            process.communicate(timeout=30)
        assert jobs_made(workerless.stack) == 12
    assert process.returncode == 0
    assert len(folder.pictures()) == 12
    assert folder.entries("withdrawn")


@pytest.mark.chaos
def test_a_service_that_is_killed_in_the_middle_is_waited_for(tmp_path: Path) -> None:
    with running_workerless_api(tmp_path) as workerless:
        folder = Folder(tmp_path, [{**OURS, "seed": seed} for seed in range(450)])
        port = int(workerless.stack.url.rpartition(":")[2])
        with folder.started(workerless.stack.url) as process:
            eventually(lambda: jobs_made(workerless.stack) > 0, 20, "it submits")
            for _ in range(2):
                workerless.stack.stop()
                workerless.stack.start_api(port)
            eventually(lambda: len(folder.entries("accepted")) == 5, 30, "all are accepted")
            workerless.stack.stop()
            for job_id in queued(workerless, folder):
                workerless.claims.finish(job_id, workerless.claim(job_id).token, State.FAILED, error=FAULT)
            workerless.stack.start_api(port)
            told, errors = process.communicate(timeout=60)
        assert (process.returncode, "450 failed" in told) == (1, True), errors
        assert jobs_made(workerless.stack) == 450


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(workerless: WorkerlessApi, tmp_path: Path) -> None:
    folder = Folder(tmp_path, [{**OURS, "seed": seed} for seed in range(2)])
    with folder.started(workerless.stack.url) as process:
        eventually(lambda: folder.entries("accepted"), 20, "accepted")
        with files_cannot_grow(psutil.Process(process.pid)):
            workerless.succeed(workerless.claim(queued(workerless, folder)[0]))
            errors = process.communicate(timeout=30)[1]
    assert (process.returncode, folder.pictures()) == (1, [])
    assert "too large" in errors, "as Linux calls it"
    assert "Traceback" not in errors
    workerless.succeed(workerless.claim(queued(workerless, folder)[1]))
    assert folder.run(workerless.stack.url)[0] == 0
    assert len(folder.pictures()) == 2


def test_changed_requests_are_told_and_nothing_is_submitted(workerless: WorkerlessApi, tmp_path: Path) -> None:
    folder = Folder(tmp_path, [OURS])
    with Manifest(folder.out, read_requests(folder.requests)):
        status, told = folder.run(workerless.stack.url)
        assert (status, "another run" in told) == (1, True)
    folder.write([OURS, OURS])
    with Manifest(folder.out, read_requests(folder.requests)) as manifest:
        assert manifest.unsent() == [1, 2], "nothing was sent yet: it may change"
        manifest.new_chunk([1, 2])
    folder.write([OURS])
    before = jobs_made(workerless.stack)
    status, told = folder.run(workerless.stack.url)
    assert (status, "has changed" in told) == (1, True)
    assert jobs_made(workerless.stack) == before


def test_what_the_service_may_have_forgotten_is_not_sent_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path, [OURS])
    with Manifest(folder.out, read_requests(folder.requests)) as manifest:
        manifest.record({"event": "sending", "key": "old", "lines": [1], "at": 1.0})
    status, told = folder.run("http://127.0.0.1:9")
    assert (status, "may no longer recognise" in told) == (1, True)


def test_another_service_than_the_folders_is_told(workerless: WorkerlessApi, tmp_path: Path) -> None:
    folder = Folder(tmp_path, [OURS])
    with Manifest(folder.out, read_requests(folder.requests)) as manifest:
        manifest.record({"event": "accepted", "key": manifest.new_chunk([1]).key, "batch": "0" * 32})
    status, told = folder.run(workerless.stack.url)
    assert status == 1
    assert "another service" in told, told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: is not JSON"),
        ("a bare prompt", "named .txt"),
        ('["a"]', "must be an object"),
        ('{"seed": 1}', "must be an object"),
        ('{"prompt": "a", "id": "../b"}', "not a valid picture name"),
        ('{"prompt": "a", "file": "/etc/passwd.png"}', "not a valid picture name"),
        ('{"prompt": "a", "file": "b.jpg"}', "not a valid picture name"),
        ('{"prompt": "a", "id": ".b"}', "not a valid picture name"),
        ('{"prompt": "a", "id": 1, "file": "b.png"}', "both"),
        ('{"prompt": "a", "id": "00001"}', "already the picture of line 1"),
        ("\udcff", "line 2: "),
    ],
)
def test_a_line_that_is_no_request_is_named_before_anything_is_sent(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n' + line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(BatchError, match=told):
        read_requests(path)


def test_a_text_file_is_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("hügel\n\n{not json}\n")
    assert [(item.file, item.request) for item in read_requests(path).items.values()] == [
        ("00001.png", {"prompt": "hügel"}),
        ("00003.png", {"prompt": "{not json}"}),
    ]


@pytest.mark.slow
def test_requests_come_from_standard_input_and_the_same_input_resumes(
    workerless: WorkerlessApi, tmp_path: Path
) -> None:
    before = jobs_made(workerless.stack)
    command = [sys.executable, "-m", "panoramas", "batch", "-", "--prompts", "-o", str(tmp_path / "out")]
    command += ["--url", workerless.stack.url]
    folder = Folder(tmp_path, [])
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write("hügel\n\n{not json}\n")
        process.stdin.close()
        eventually(lambda: folder.entries("accepted"), 20, "accepted")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130, process.stderr.read()
    again = [*command, "--dry-run"]
    done = subprocess.run(again, cwd=ROOT, input="hügel\n\n{not json}\n", text=True, capture_output=True)
    assert "0 to submit, 2 submitted and not fetched yet" in done.stdout, done.stderr
    assert jobs_made(workerless.stack) == before + 2
    prompts = [workerless.get(job_id)["input"]["prompt"] for job_id in queued(workerless, folder)]
    assert prompts == ["hügel", "{not json}"]
    done = subprocess.run(command, cwd=ROOT, input="other\n", text=True, capture_output=True)
    assert (done.returncode, "has changed" in done.stderr) == (1, True), done.stderr


@pytest.mark.chaos
def test_ten_thousand_lines_killed_three_times_become_ten_thousand_jobs(tmp_path: Path) -> None:
    """Nothing is painted: what counts is what was submitted, and that each picture belongs to its line."""
    with running_workerless_api(tmp_path) as workerless:
        folder = Folder(tmp_path, [{**OURS, "seed": seed} for seed in range(10_000)])

        def made() -> int:
            return int(workerless.redis.get(keys.SEQUENCE) or 0)

        for aim in (700, 3_000, 7_000):
            with folder.started(workerless.stack.url):
                eventually(lambda aim=aim: made() >= aim, 60, "some are made")  # type: ignore[misc]
            assert aim <= made() < 10_000
        with folder.started(workerless.stack.url) as process:
            eventually(lambda: len(folder.entries("accepted")) == 100, 120, "all are accepted")
            assert made() == 10_000, "no job was made twice"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        assert process.returncode == 130
        lines = {entry["key"]: entry["lines"] for entry in folder.entries("sending")}
        seeds = []
        for entry in folder.entries("accepted"):
            for job_id in workerless.redis.zrange(keys.batch_index(entry["batch"]), 0, -1):
                record = workerless.redis.hgetall(keys.job(job_id))
                assert lines[entry["key"]][int(record["batch_index"])] == json.loads(record["input"])["seed"] + 1
                seeds.append(json.loads(record["input"])["seed"])
        assert sorted(seeds) == list(range(10_000)), "and none is missing"
        assert "0 to submit, 10000 submitted" in folder.run(workerless.stack.url, "--dry-run")[1]
