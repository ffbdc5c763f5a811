"""The sweep of expired jobs and of images that no job refers to."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import keys
from jobs.record import State
from jobs.store import ImageStore, StoreError
from testkit.jobs import RESULT, Jobs
from testkit.proxy import proxy_to
from testkit.s3_server import S3Server, s3_server
from worker.sweeper import Sweeper

pytestmark = pytest.mark.slow  # the S3 server imports for seconds


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def store(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return ImageStore(f"s3://pictures/{uuid.uuid4().hex}")


def expired(jobs: Jobs, store: ImageStore) -> str:
    """A job with an image, whose retention is over."""
    job_id = jobs.submit()
    record = jobs.worker().claim(job_id)
    assert record
    image = store.put(job_id, record.token, b"png")
    jobs.worker().finish(job_id, record.token, State.SUCCEEDED, result={**RESULT, "key": image.key})
    jobs.redis.zadd(keys.FINISHED, {job_id: 1})
    return job_id


def images(store: ImageStore) -> set[str]:
    return {image.key.split("/")[0] for page in store.older_than(-60) for image in page}


def test_an_object_that_cannot_be_deleted_is_skipped_and_tried_again_later(
    jobs: Jobs, store: ImageStore, s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, *others = [expired(jobs, store) for _ in range(3)]
    s3.undeletable(stuck)
    sweeper = Sweeper(jobs.worker(), store)
    sweeper.sweep()
    assert [jobs.get(job_id).record.state for job_id in (stuck, *others)] == ["succeeded", "expired", "expired"]
    assert images(store) == {stuck}
    assert "cannot be deleted" in caplog.text
    assert jobs.worker().due_for_expiry() == [], "it delays no later sweep"
    s3.undeletable()
    jobs.redis.zadd(keys.FINISHED, {stuck: 1})
    sweeper.sweep()
    assert jobs.get(stuck).record.state == "expired"
    assert images(store) == set()


def test_an_orphan_that_cannot_be_deleted_is_skipped(jobs: Jobs, store: ImageStore, s3: S3Server) -> None:
    ended = [expired(jobs, store) for _ in range(2)]
    for job_id in ended:
        store.put(job_id, "7-" + "0" * 32, b"of a crashed attempt")
        jobs.redis.zadd(keys.FINISHED, {job_id: 2**53})
    s3.undeletable("7-" + "0" * 32)
    sweeper = Sweeper(jobs.worker(), store, orphan_age=-60)
    sweeper.sweep()
    s3.undeletable(f"{ended[0]}/7-")
    jobs.redis.delete(keys.SWEEP)
    sweeper.sweep()
    kept = [image.key for page in store.older_than(-60) for image in page]
    assert len(kept) == 3
    s3.undeletable()


def test_a_store_that_is_away_ends_the_sweep_and_loses_nothing(
    jobs: Jobs, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with proxy_to(s3.url) as proxy:
        for name, value in s3.environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        store = ImageStore(f"s3://pictures/{uuid.uuid4().hex}")
        ended = [expired(jobs, store) for _ in range(2)]
        proxy.refuse()
        sweeper = Sweeper(jobs.worker(), store)
        with pytest.raises(StoreError):
            sweeper.sweep()
        assert {record.id for record in jobs.worker().due_for_expiry()} == set(ended), "the next sweep takes them"
        proxy.resume()
        sweeper.sweep()
        assert [jobs.get(job_id).record.state for job_id in ended] == ["expired", "expired"]
