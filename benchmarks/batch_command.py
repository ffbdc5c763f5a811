"""`python -m benchmarks.batch_command`: how fast `panoramas batch` submits requests and downloads pictures.

Nothing is painted: each picture is a file of zeros as large as a panorama. The service, its Redis (which writes every
job to the disk before it acknowledges it) and the command share this machine.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs import keys
from jobs.record import State
from testkit.workerless import WorkerlessApi, running_workerless_api

PICTURE_BYTES = 1_500_000


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_command", description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--pictures", type=int, default=1_000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="batch-") as temporary,
        running_workerless_api(Path(temporary)) as workerless,
    ):
        seconds = submit(workerless, Path(temporary) / "many", options.lines)
        print(
            f"{options.lines:,} lines submitted in {seconds:.1f} s, {options.lines / seconds:,.0f} a second", flush=True
        )
        few = Path(temporary) / "few"
        submit(workerless, few, options.pictures)
        succeed(workerless, few)
        with command(workerless, few) as process:
            start = time.perf_counter()
            process.wait()
        seconds = time.perf_counter() - start
        rate, there = options.pictures / seconds, len(list((few / "out").glob("*.png")))
        print(f"{there:,} pictures of {PICTURE_BYTES / 1e6:.1f} MB in {seconds:.1f} s, {rate:,.0f} a second")


def submit(workerless: WorkerlessApi, folder: Path, lines: int) -> float:
    """Start the command and interrupt it once all lines are accepted. Returns the seconds, including its start."""
    folder.mkdir()
    request = {"prompt": "hills", "width": 1024, "height": 512}
    (folder / "requests.jsonl").write_text("".join(json.dumps({**request, "seed": n}) + "\n" for n in range(lines)))
    before = int(workerless.redis.get(keys.SEQUENCE) or 0)
    start = time.perf_counter()
    with command(workerless, folder) as process:
        while int(workerless.redis.get(keys.SEQUENCE) or 0) < before + lines or not all_accepted(folder, lines):
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        process.send_signal(signal.SIGINT)
        process.wait()
    return seconds


def all_accepted(folder: Path, lines: int) -> bool:
    """Whether the manifest says so: it has one line per hundred requests."""
    return (folder / "out" / "manifest.jsonl").read_bytes().count(b'"accepted"') >= lines / 100


def succeed(workerless: WorkerlessApi, folder: Path) -> None:
    """Give every job of the folder the same picture."""
    png = b"\x89PNG\r\n\x1a\n" + bytes(PICTURE_BYTES - 8)
    for line in (folder / "out" / "manifest.jsonl").read_text().splitlines():
        if '"accepted"' in line:
            for job_id in workerless.redis.zrange(keys.batch_index(json.loads(line)["batch"]), 0, -1):
                record = workerless.claim(str(job_id))
                stored = workerless.store.put(record.id, record.token, png)
                result = {"key": stored.key, "sha256": stored.sha256, "bytes": stored.bytes, "width": 1, "height": 1}
                workerless.claims.finish(record.id, record.token, State.SUCCEEDED, result=result, timings={})


def command(workerless: WorkerlessApi, folder: Path) -> subprocess.Popen[bytes]:
    """`panoramas batch` on the folder's requests."""
    arguments = ["batch", str(folder / "requests.jsonl"), "-o", str(folder / "out"), "--url", workerless.stack.url]
    return subprocess.Popen(
        [sys.executable, "-m", "panoramas", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
