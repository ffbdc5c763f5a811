"""The Python client, both of it, against the real service: one job however often it is asked for."""

from __future__ import annotations

import asyncio
import hashlib
import io
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from panoramas import (
    AsyncClient,
    Batch,
    Client,
    Job,
    JobFailed,
    PanoramaParams,
    PanoramaRequest,
    Picture,
    ServiceError,
    WaitTimeout,
)
from panoramas.formats import MEDIA_TYPES
from service.openapi_examples import BATCH, JOB
from service.schemas.requests import PanoramaRequest as ServersRequest
from testkit.http import jobs_made
from testkit.processes import Stack, eventually
from testkit.proxy import Proxy, proxy_to
from testkit.workerless import WorkerlessApi, running_workerless_api

SMALL: PanoramaParams = {"width": 128, "height": 128, "num_inference_steps": 1}
OURS: PanoramaParams = {"width": 256, "height": 136, "num_inference_steps": 5}


@pytest.fixture
def cut(workerless: WorkerlessApi) -> Iterator[Proxy]:
    with proxy_to(workerless.stack.url) as proxy:
        yield proxy


def test_a_picture_is_painted_followed_and_fetched_in_every_form(stack: Stack, tmp_path: Path) -> None:
    with Client(stack.url) as client:
        picture = client.generate("mountains", seed=3, metadata={"order": 7}, timeout=60, **SMALL)
        path = picture.save(tmp_path / "out.png")
        job = client.get(picture.job.id)
        assert (job, job.ended, job.metadata) == (picture.job, True, {"order": 7})
        assert job.result
        assert hashlib.sha256(path.read_bytes()).hexdigest() == job.result.sha256
        assert job.input
        assert (job.input["seed"], job.progress.fraction) == (3, 1.0)
        for form in MEDIA_TYPES:
            assert Image.open(io.BytesIO(client.image(job.id, format=form))).format == form.upper()
        assert Image.open(io.BytesIO(client.thumbnail(job))).size == (128, 128)
        assert [seen.state for seen in client.watch(job)] == ["succeeded"]
        assert client.models()["items"][0]["name"] == "tiny"
        client.delete(job)
        client.delete(job)
        with pytest.raises(ServiceError) as gone:
            client.image(job)
        assert gone.value.status == 410


def test_the_asynchronous_client_does_the_same_many_at_once(stack: Stack) -> None:
    async def main() -> list[Picture]:
        async with AsyncClient(stack.url) as client:
            painted = await asyncio.gather(*(client.generate("hills", seed=seed, **SMALL) for seed in range(4)))
            first = painted[0].job
            assert [seen.state async for seen in client.watch(first)] == ["succeeded"]
            assert [job.state async for job in client.list(state="succeeded", limit=1)] == ["succeeded"]
            assert (await client.image(first, format="jpeg")).startswith(b"\xff\xd8")
            batch = await client.submit_batch([{"prompt": "hills", **SMALL}])
            async for job in client.list(batch=batch.id):
                assert (await client.wait(job, timeout=60)).batch_index == 0
            assert (await client.batch(batch.id)).ended
            return painted

    assert {picture.data[:4] for picture in asyncio.run(main())} == {b"\x89PNG"}


def test_a_submit_whose_answer_is_lost_is_sent_again_and_makes_one_job(workerless: WorkerlessApi, cut: Proxy) -> None:
    before = jobs_made(workerless.stack)
    cut.cut_answer(times=2)
    with Client(cut.url) as client:
        job = client.submit("mountains", **OURS)
    assert cut.requests == ["POST /panoramas"] * 3
    assert jobs_made(workerless.stack) == before + 1
    assert workerless.get(job.id)["state"] == "queued"

    async def again() -> Job:
        cut.cut_answer()
        async with AsyncClient(cut.url) as client:
            return await client.submit("mountains", **OURS)

    assert asyncio.run(again()).id != job.id, "another call is another job"
    assert jobs_made(workerless.stack) == before + 2


def test_a_batch_whose_answer_is_lost_is_made_once(workerless: WorkerlessApi, cut: Proxy) -> None:
    before = jobs_made(workerless.stack)
    items: list[PanoramaRequest] = [{"prompt": "a", **OURS}, {"prompt": "b", **OURS}, {"prompt": "c", "width": 130}]
    cut.cut_answer()
    with Client(cut.url) as client:
        batch = client.submit_batch(items, lenient=True)
        assert (batch.accepted, batch.refused, batch.errors[0]["index"]) == (2, 1, 2)
        assert jobs_made(workerless.stack) == before + 2
        assert sorted(job.batch_index or 0 for job in client.list(batch=batch.id)) == [0, 1]
        assert [job.batch_index for job in client.list(batch=batch.id, limit=1)] == [1], "newest first"
        with pytest.raises(ServiceError) as refused:
            client.submit_batch(items)
        assert [(error.index, error.pointer) for error in refused.value.errors] == [(2, "#/items/2/width")]
        cut.cut_answer()
        assert client.cancel_batch(batch.id).ended
        assert client.batch(batch.id).counts["canceled"] == 2


def test_a_cancel_and_a_delete_whose_answers_are_lost_succeed(workerless: WorkerlessApi, cut: Proxy) -> None:
    with Client(cut.url) as client:
        job = client.submit("mountains", **OURS)
        cut.cut_answer()
        assert client.cancel(job).state == "canceled"
        with pytest.raises(JobFailed, match="canceled"):
            client.wait(job)
        cut.cut_answer()
        client.delete(job)


def test_events_go_on_after_the_connection_was_cut_and_none_is_missed_or_told_twice(
    workerless: WorkerlessApi, cut: Proxy
) -> None:
    record = workerless.claim(workerless.submit()["id"])
    heard: list[list[tuple[str, int]]] = [[], []]

    def listen() -> None:
        with Client(cut.url) as client:
            for event in client.events(record.id):
                heard[0].append((event.name, event.job.progress.step))

    async def listen_too() -> None:
        async with AsyncClient(cut.url) as client:
            async for event in client.events(record.id):
                heard[1].append((event.name, event.job.progress.step))

    def listening() -> int:
        return sum("/events" in line for line in cut.requests)

    listeners = [threading.Thread(target=listen), threading.Thread(target=lambda: asyncio.run(listen_too()))]
    for listener in listeners:
        listener.start()
    eventually(lambda: all(heard), 20, "both hear the job as it is")
    workerless.step(record, 1)
    eventually(lambda: all(("progress", 1) in told for told in heard), 20, "both hear the first step")
    cut.cut_all()
    for step in (2, 3):
        workerless.step(record, step)
    workerless.claims.preview(record.id, record.token, 3, b"canvas")
    eventually(lambda: listening() == 4, 20, "both have come back")
    workerless.step(record, 4)
    with Client(cut.url) as client:
        assert client.preview(record.id) == b"canvas"
    workerless.succeed(record)
    for listener in listeners:
        listener.join(20)
    for told in heard:
        assert [step for name, step in told if name == "progress"] == [1, 2, 3, 4]
        assert [name for name, _ in told].count("preview") == 1
        assert told[-1] == ("job", 5)


def test_a_wait_gives_up_in_time_and_the_job_goes_on(workerless: WorkerlessApi) -> None:
    with Client(workerless.stack.url) as client:
        job = client.submit("mountains", **OURS)
        start = time.monotonic()
        with pytest.raises(WaitTimeout) as late:
            client.wait(job, timeout=0.3)
        assert time.monotonic() - start < 5
        assert late.value.job.state == "queued"
        with pytest.raises(ServiceError, match="no image") as early:
            client.image(job)
        assert early.value.status == 409
        workerless.succeed(workerless.claim(job.id))
        assert client.wait(job, timeout=0.3).state == "succeeded"


def test_a_full_queue_and_a_rate_limit_are_waited_out_as_the_service_asks(tmp_path: Path) -> None:
    with (
        running_workerless_api(tmp_path, PANORAMAS_MAX_QUEUED="1") as workerless,
        Client(workerless.stack.url, patience=0.1) as hasty,
    ):
        workerless.redis.hset("panoramas:pace", "job_ms", 1000)
        first = hasty.submit("mountains", **OURS)
        with pytest.raises(ServiceError) as full:
            hasty.submit("mountains", **OURS)
        assert full.value.status == 429
        threading.Timer(0.5, hasty.cancel, [first]).start()
        with Client(workerless.stack.url) as client:
            start = time.monotonic()
            assert client.submit("mountains", **OURS).state == "queued"
            assert time.monotonic() - start >= 1, "Retry-After was kept"


@pytest.mark.slow
def test_a_service_that_is_away_is_waited_for_and_then_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_workerless_api(tmp_path) as workerless:
        port = int(workerless.stack.url.rpartition(":")[2])
        workerless.stack.stop()
        with (
            Client(workerless.stack.url, patience=0.2) as client,
            pytest.raises(ServiceError, match="does not respond"),
        ):
            client.models()
        starting = threading.Timer(0.5, workerless.stack.start_api, [port])
        starting.start()
        with Client(workerless.stack.url) as client:
            caplog.clear()
            assert client.submit("mountains", **OURS).state == "queued"
        starting.join()
    told = [record.getMessage() for record in caplog.records if record.name == "panoramas"]
    assert len(told) == 1, "said once, however often it is tried"
    assert "trying again for up to 60 s" in told[0]


def test_the_key_comes_from_the_argument_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    with running_workerless_api(tmp_path, PANORAMAS_API_KEYS=f"anna:{digest}") as workerless:
        url = workerless.stack.url
        with Client(url, api_key="wrong") as client, pytest.raises(ServiceError) as refused:
            client.models()
        assert refused.value.status == 401
        command = [sys.executable, "-m", "panoramas", "status", "0" * 32, "--url", url]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "API key" in done.stderr
        done = subprocess.run([*command, "--api-key", "secret"], capture_output=True, text=True)
        assert (done.returncode, done.stderr.strip()) == (
            1,
            f"panoramas: There is no such job. job_id: {'0' * 32} is unknown",
        )
        monkeypatch.setenv("PANORAMAS_URL", url)
        monkeypatch.setenv("PANORAMAS_API_KEY", "secret")
        with Client() as client:
            assert client.models()["items"]


def test_an_idempotency_key_of_ones_own_outlives_the_client(workerless: WorkerlessApi) -> None:
    key = uuid.uuid4().hex
    jobs = []
    for _ in range(2):
        with Client(workerless.stack.url) as client:
            jobs.append(client.submit("mountains", idempotency_key=key, **OURS).id)
    assert jobs[0] == jobs[1]


def test_a_refused_panorama_names_the_fields(workerless: WorkerlessApi) -> None:
    with Client(workerless.stack.url) as client, pytest.raises(ServiceError, match="#/width: must be") as refused:
        client.submit("mountains", width=130)
    assert refused.value.status == 422
    assert [error.pointer for error in refused.value.errors] == ["#/width"]


def test_answers_of_a_newer_and_of_an_older_server_are_understood() -> None:
    newer = Job.of({**JOB, "colour": "red", "result": {**JOB["result"], "frames": 1}, "state": "resting"})
    assert (newer.raw["colour"], newer.ended, newer.created_at and newer.created_at.year) == ("red", False, 2026)
    older = Job.of({"id": JOB["id"], "state": "queued"})
    assert (older.result, older.progress.step, older.metadata) == (None, 0, {})
    assert Batch.of(BATCH).counts["running"] == 4


def test_the_clients_parameters_are_the_services() -> None:
    assert PanoramaRequest.__annotations__.keys() == ServersRequest.model_fields.keys()


def test_the_packages_import_is_cheap() -> None:
    code = "import sys, panoramas; assert not {'httpx', 'typer', 'rich'} & set(sys.modules); panoramas.Client"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
