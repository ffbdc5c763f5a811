"""Batches, repainting, progress and webhooks by both clients, against the real service."""

from __future__ import annotations

import asyncio
import io
import json
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from panoramas import (
    AsyncClient,
    BatchWaitTimeout,
    Client,
    InvalidArgumentError,
    Job,
    PanoramaParams,
    ServiceError,
    UnprocessableEntityError,
)
from testkit.http import batch_items, jobs_made
from testkit.processes import Stack
from testkit.proxy import Proxy, proxy_to
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api
from tests.service.test_png_body import png_with

SMALL: PanoramaParams = {"width": 128, "height": 128, "num_inference_steps": 1}


@pytest.fixture
def cut(workerless: WorkerlessApi) -> Iterator[Proxy]:
    with proxy_to(workerless.stack.url) as proxy:
        yield proxy


def test_a_picture_is_generated_under_a_key_in_a_format_with_its_progress(stack: Stack) -> None:
    key, seen, seen_too = uuid.uuid4().hex, [], []
    before = jobs_made(stack)

    async def again() -> bytes:
        async def on_progress(job: Job) -> None:
            await asyncio.sleep(0)
            seen_too.append(job.state)

        async with AsyncClient(stack.url) as client:
            picture = await client.generate(
                "hills", idempotency_key=key, format="jpeg", on_progress=on_progress, **SMALL
            )
            return picture.data

    with Client(stack.url) as client:
        picture = client.generate(
            "hills", idempotency_key=key, format="webp", on_progress=lambda job: seen.append(job.state), **SMALL
        )
    assert (picture.media_type, Image.open(io.BytesIO(picture.data)).format) == ("image/webp", "WEBP")
    assert Image.open(io.BytesIO(asyncio.run(again()))).format == "JPEG"
    assert (seen[-1], seen_too) == ("succeeded", ["succeeded"])
    assert jobs_made(stack) == before + 1


def test_a_png_is_painted_again_from_its_bytes_and_its_file(stack: Stack, tmp_path: Path) -> None:
    with Client(stack.url) as client:
        first = client.generate("hills", **SMALL)
        path = first.save(tmp_path / "first.png")
        again = client.wait(client.repaint(path), timeout=60)
        assert again.result
        assert again.result.sha256 == first.job.result.sha256  # type: ignore[union-attr]
        key = uuid.uuid4().hex
        assert client.repaint(first.data, idempotency_key=key).id == client.repaint(str(path), idempotency_key=key).id
        (tmp_path / "no.png").write_bytes(b"GIF89a")
        with pytest.raises(InvalidArgumentError, match="not a PNG"):
            client.repaint(tmp_path / "no.png")
        with pytest.raises(FileNotFoundError):
            client.repaint(tmp_path / "none.png")

    async def repaint() -> str:
        async with AsyncClient(stack.url) as client:
            return (await client.repaint(path, idempotency_key=key)).id

    assert asyncio.run(repaint())


def test_what_is_no_part_of_a_recipe_goes_beside_a_png(workerless: WorkerlessApi) -> None:
    png = png_with(json.dumps(PANORAMA))
    metadata = {"order": "ü & ?", "lines": [1, None]}

    async def repaint() -> Job:
        async with AsyncClient(workerless.stack.url) as client:
            return await client.repaint(png, priority="batch", metadata=metadata)

    with Client(workerless.stack.url) as client:
        job = client.repaint(png, priority="batch", metadata=metadata)
        assert (job.raw["priority"], job.metadata) == ("batch", metadata)
        with pytest.raises(UnprocessableEntityError, match="webhook_url"):
            client.repaint(png, webhook_url="ftp://host")
    assert asyncio.run(repaint()).metadata == metadata


def test_pages_are_followed_whatever_address_the_service_believes_it_has(tmp_path: Path) -> None:
    with (
        running_workerless_api(tmp_path, PANORAMAS_PUBLIC_URL="https://elsewhere.example/pano") as workerless,
        Client(workerless.stack.url) as client,
    ):
        batch = client.submit_batch(batch_items(120))
        assert sorted(job.batch_index or 0 for job in client.list(batch=batch)) == list(range(120))


def test_a_batch_is_waited_for_and_its_archive_is_fetched_whole_or_not_at_all(
    workerless: WorkerlessApi, cut: Proxy, tmp_path: Path
) -> None:
    seen: list[int] = []
    with Client(cut.url) as client:
        batch = client.submit_batch(batch_items(3))
        with pytest.raises(BatchWaitTimeout, match="3 queued") as late:
            client.wait_batch(batch, timeout=0.2)
        assert late.value.batch.id == batch.id
        jobs = list(client.list(batch=batch))
        for job in jobs[:2]:
            workerless.succeed(workerless.claim(job.id))
        client.cancel(jobs[2])
        ended = client.wait_batch(batch.id, timeout=10, on_progress=lambda seen_now: seen.append(seen_now.total))
        assert (ended.counts["succeeded"], ended.counts["canceled"], seen) == (2, 1, [3])
        cut.cut_answer(holding=b"manifest.jsonl", times=2)
        path = client.download_zip(batch, tmp_path / "pictures.zip")
        assert sum("images.zip" in line for line in cut.requests) > 1
        names = zipfile.ZipFile(path).namelist()
        assert sorted(name.partition(".")[2] for name in names) == ["jsonl", "png", "png"]
        with pytest.raises(ServiceError):
            client.download_zip("0" * 32, tmp_path / "none.zip")
        with pytest.raises(FileNotFoundError):
            client.download_zip(batch, tmp_path / "none" / "pictures.zip")
        with pytest.raises(IsADirectoryError):
            client.download_zip(batch, tmp_path)

    async def fetch() -> Path:
        async with AsyncClient(cut.url) as client:
            ended = await client.wait_batch(batch, timeout=5)
            cut.cut_answer(holding=b"manifest.jsonl")
            return await client.download_zip(ended, tmp_path / "again.zip")

    assert zipfile.ZipFile(asyncio.run(fetch())).namelist() == names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.zip", "pictures.zip"], "nothing half written"


def test_progress_is_told_while_a_job_runs_and_the_time_out_is_kept(workerless: WorkerlessApi) -> None:
    record = workerless.claim(workerless.submit()["id"])
    steps: list[int] = []

    def on_progress(job: Job) -> None:
        steps.append(job.progress.step)
        workerless.step(record, len(steps))
        if len(steps) == 3:
            workerless.succeed(record)

    with Client(workerless.stack.url) as client:
        assert client.wait(record.id, timeout=20, on_progress=on_progress).state == "succeeded"
        assert steps[:3] == [0, 1, 2]
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            client.generate("hills", timeout=0.5, on_progress=lambda job: None, **SMALL)
        assert time.monotonic() - start < 5
        client.cancel(next(client.list(limit=1)))


def test_what_a_callback_raises_ends_the_wait(workerless: WorkerlessApi) -> None:
    job = workerless.submit()

    def stop(job: Job) -> None:
        raise StopIteration("a callback's own")

    with Client(workerless.stack.url) as client, pytest.raises(StopIteration):
        client.wait(job["id"], on_progress=stop)
