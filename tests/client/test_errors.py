"""Every status has its exception, with all that the response says; exceptions survive pickling."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import panoramas
from panoramas import (
    APIConnectionError,
    AsyncClient,
    AuthenticationError,
    Batch,
    BatchWaitTimeout,
    Client,
    ConflictError,
    GoneError,
    InternalServerError,
    InvalidArgumentError,
    Job,
    JobFailed,
    NotFoundError,
    PanoramasError,
    PayloadTooLargeError,
    Picture,
    RateLimitError,
    ServiceError,
    ServiceUnavailableError,
    UnprocessableEntityError,
    WaitTimeout,
)
from panoramas.errors import _CLASSES
from service.openapi_examples import BATCH, JOB
from testkit.answers import Answers, answering
from testkit.workerless import PANORAMA, WorkerlessApi, running_workerless_api


@pytest.fixture
def answers() -> Iterator[Answers]:
    with answering() as running:
        yield running


def test_the_services_refusals_have_a_class_for_each_status(workerless: WorkerlessApi, tmp_path: Path) -> None:
    with Client(workerless.stack.url) as client:
        job = client.submit("hills", width=256, height=136)
        with pytest.raises(NotFoundError) as unknown:
            client.get("0" * 32)
        assert (unknown.value.status, unknown.value.type) == (404, "urn:panoramas:problem:no-such-job")
        assert unknown.value.problem["title"] == "There is no such job"
        with pytest.raises(ConflictError) as early:
            client.image(job)
        assert early.value.retry_after is not None
        with pytest.raises(UnprocessableEntityError) as refused:
            client.submit("hills", width=130)
        assert [error.pointer for error in refused.value.errors] == ["#/width"]
        with pytest.raises(PayloadTooLargeError):
            client.submit("hills", metadata={"much": "a" * 100_000})
        client.delete(client.cancel(job))
        with pytest.raises(GoneError):
            client.image(job)
    digest = hashlib.sha256(b"right").hexdigest()
    limits = {"PANORAMAS_API_KEYS": f"anna:{digest}", "PANORAMAS_MAX_QUEUED": "1"}
    with running_workerless_api(tmp_path, **limits) as limited:
        with Client(limited.stack.url, api_key="wrong") as client, pytest.raises(AuthenticationError):
            client.models()
        with Client(limited.stack.url, api_key="right", patience=0) as client:
            client.submit("hills")
            with pytest.raises(RateLimitError):
                client.submit("hills")


@pytest.mark.parametrize("status", [*sorted(_CLASSES), 402, 418, 500, 501, 599])
def test_a_status_has_its_exception_for_both_clients(answers: Answers, status: int) -> None:
    problem = {"type": "urn:test", "title": "A test's", "status": status, "detail": "because"}
    answers.status, answers.body = status, json.dumps(problem).encode()
    answers.headers = {"X-Request-Id": "req-7", "Retry-After": "120"}

    async def ask() -> None:
        async with AsyncClient(answers.url) as client:
            await client.models()

    with Client(answers.url) as client, pytest.raises(ServiceError) as told:
        client.models()
    with pytest.raises(ServiceError) as told_too:
        asyncio.run(ask())
    for error in (told.value, pickle.loads(pickle.dumps(told.value)), told_too.value):
        expected = _CLASSES.get(status, InternalServerError if status >= 500 else ServiceError)
        assert type(error) is expected
        assert (error.status, error.type, error.problem) == (status, "urn:test", problem)
        assert (error.request_id, error.retry_after, str(error)) == ("req-7", 120, "A test's. because")


def test_an_answer_that_is_not_the_services_is_an_error_of_the_client(answers: Answers) -> None:
    with Client(answers.url, patience=0) as client:
        for answers.body in (b"", b"<html>", b"[]", b"7", b"null", b'{"items": 3}', b'{"id": 3, "progress": 4}'):
            asks = [lambda: client.get("a"), lambda: list(client.list()), lambda: client.batch("a")]
            asks += [lambda: client.webhook("a"), lambda: client.submit("hills"), lambda: next(client.events("a"))]
            for ask in asks:
                with pytest.raises(ServiceError, match="not a panorama service"):
                    ask()
        answers.status, answers.headers = 301, {"Location": "https://elsewhere.example/"}
        with pytest.raises(ServiceError, match=r"301 .*https://elsewhere.example/"):
            client.models()
        answers.status, answers.headers, answers.body = 502, {"Retry-After": "inf"}, b"<html>"
        with pytest.raises(ServiceUnavailableError, match="502"):
            client.models()


def test_a_job_that_generate_has_submitted_is_in_the_error_when_the_service_goes_away(answers: Answers) -> None:
    answers.body = json.dumps({**JOB, "state": "queued"}).encode()

    def leave(job: Job) -> None:
        answers.status = 503

    async def generate() -> None:
        async with AsyncClient(answers.url, patience=0) as client:
            await client.generate("hills", on_progress=leave)

    with Client(answers.url, patience=0) as client:
        with pytest.raises(ServiceUnavailableError) as gone:
            client.generate("hills", on_progress=leave)
        assert pickle.loads(pickle.dumps(gone.value)).job.id == JOB["id"]
        answers.status, answers.body = 200, json.dumps({**JOB, "state": "succeeded"}).encode()
        with pytest.raises(ServiceUnavailableError) as gone:
            client.generate("hills", on_progress=leave)
        assert gone.value.job
        assert gone.value.job.state == "succeeded"
        with pytest.raises(ServiceUnavailableError) as gone:
            client.generate("hills")
        assert gone.value.job is None
    answers.status = 200
    with pytest.raises(ServiceUnavailableError) as gone:
        asyncio.run(generate())
    assert gone.value.job


def test_a_picture_is_not_saved_under_the_name_of_another_format(tmp_path: Path) -> None:
    picture = Picture(Job.of(JOB), b"bytes", "image/webp")
    with pytest.raises(InvalidArgumentError, match="format='png'"):
        picture.save(tmp_path / "a.png")
    for name in ("a.webp", "a", "a.bin"):
        assert picture.save(tmp_path / name).read_bytes() == b"bytes"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_page_of_a_list_is_asked_for_where_the_client_was_pointed_to(answers: Answers) -> None:
    """A link to another host, or without the proxy's prefix, must not lead the key there."""
    answers.body = json.dumps({"items": [JOB]}).encode()
    answers.headers = {"Link": '<https://elsewhere.example/jobs?cursor=abc&limit=1>; rel="next"'}
    with Client(f"{answers.url}/pano") as client:
        jobs = client.list(limit=2)
        assert len(list(jobs)) == 2
    assert answers.paths == ["/pano/jobs?limit=2", "/pano/jobs?cursor=abc&limit=1"]


def test_every_exception_has_one_base_and_survives_pickling() -> None:
    named = [getattr(panoramas, name) for name in panoramas.__all__]
    kinds = [kind for kind in named if isinstance(kind, type) and issubclass(kind, BaseException)]
    assert len(kinds) > 15
    assert all(issubclass(kind, PanoramasError) for kind in kinds)
    assert issubclass(APIConnectionError, ServiceError)
    job, batch = Job.of(JOB), Batch.of(BATCH)
    for error in (JobFailed(job), WaitTimeout(job)):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.job) == (type(error), str(error), job)
    assert pickle.loads(pickle.dumps(BatchWaitTimeout(batch))).batch == batch
    assert isinstance(WaitTimeout(job), TimeoutError)


def test_a_webhook_that_a_job_has_not_is_not_found(workerless: WorkerlessApi) -> None:
    job = workerless.submit(**PANORAMA)
    with Client(workerless.stack.url) as client:
        with pytest.raises(NotFoundError):
            client.webhook(job["id"])
        with pytest.raises(NotFoundError):
            client.webhook_secret()
