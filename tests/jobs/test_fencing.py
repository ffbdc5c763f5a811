"""Tokens of claims on a server that loses its last writes: two claims never have the same one, nor the same image."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import keys
from jobs.record import JobRecord, State, read_record
from jobs.store import ImageFile, ImageStore, StoreError
from testkit.jobs import FAULT, RESULT, Jobs
from testkit.processes import RedisServer


@pytest.fixture
def own_jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Jobs on a server that the test may kill."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    with server.client() as redis:
        yield Jobs(server, redis)
    server.kill()


class OlderState:
    """The server's files at one moment, to which it is set back as a power cut or a failover does."""

    def __init__(self, server: RedisServer, copy: Path) -> None:
        self._server, self._data, self._copy = server, server.folder / "data", copy
        shutil.copytree(self._data, copy)

    def restore(self) -> None:
        self._server.kill()
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)
        self._server.start()


def _commit(jobs: Jobs, name: str, record: JobRecord, store: ImageStore, data: bytes) -> State | None:
    image = store.put(record.id, record.token, data)
    result = {**RESULT, "key": image.key, "sha256": image.sha256, "bytes": image.bytes}
    return jobs.worker(name).finish(record.id, record.token, State.SUCCEEDED, result=result)


@pytest.mark.parametrize("lost", ["the claim", "the claim and the commit", "the second claim"])
def test_two_workers_after_the_server_lost_a_claim_commit_once_and_damage_no_image(
    own_jobs: Jobs, tmp_path: Path, lost: str
) -> None:
    jobs, store = own_jobs, ImageStore((tmp_path / "images").as_uri())
    job_id = jobs.submit()
    if lost == "the second claim":
        jobs.worker().release(job_id, jobs.worker().claim(job_id).token, fault=FAULT)
    before = OlderState(jobs.server, tmp_path / "copy")
    first = jobs.worker("first").claim(job_id)
    if lost == "the claim and the commit":
        assert _commit(jobs, "first", first, store, b"of the first") == State.SUCCEEDED
    before.restore()
    second = jobs.worker("second").claim(job_id)
    assert second.token.partition("-")[0] == first.token.partition("-")[0], "the server counts from the same number"
    assert jobs.worker("first").renew(job_id, first.token) == "lost"
    outcomes = [
        _commit(jobs, "second", second, store, b"of the second"),
        _commit(jobs, "first", first, store, b"of the first"),
    ]
    assert outcomes == [State.SUCCEEDED, None]
    committed = jobs.get(job_id).record.result
    assert asyncio.run(store.get(committed["key"], committed["sha256"])) == b"of the second"


def test_a_late_attempt_cannot_end_the_job_of_one_with_the_same_number(own_jobs: Jobs, tmp_path: Path) -> None:
    jobs, job_id = own_jobs, own_jobs.submit()
    before = OlderState(jobs.server, tmp_path / "copy")
    late = jobs.worker("late").claim(job_id)
    before.restore()
    owner = jobs.worker("owner").claim(job_id)
    record = jobs.get(job_id).record
    worker = jobs.worker("late")
    assert worker.progress(job_id, late.token, step=3) == "lost"
    assert worker.preview(job_id, late.token, 3, b"jpeg") == "lost"
    assert worker.release(job_id, late.token, fault=FAULT) is None
    assert worker.finish(job_id, late.token, State.FAILED, error={}) is None
    assert jobs.get(job_id).record == record
    assert jobs.worker("owner").renew(job_id, owner.token) == "ok"


def test_an_image_is_created_and_never_overwritten(tmp_path: Path) -> None:
    store = ImageStore(tmp_path.as_uri())
    image = store.put("j1", "1-a", b"first")
    assert store.put("j1", "1-a", b"first") == image, "its answer was lost, and it is sent again"
    with pytest.raises(StoreError, match="exists with other bytes"):
        store.put("j1", "1-a", b"other")
    assert asyncio.run(store.get(image.key, image.sha256)) == b"first"


def test_a_bucket_is_asked_to_create_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As is the retry of one that says that it cannot, without the condition."""
    import obstore

    from jobs import store as store_module

    asked, put = [], obstore.put

    def without_conditions(store: object, key: str, data: bytes, **options: object) -> object:
        asked.append(options.get("mode"))
        if options.get("mode") == "create":
            raise obstore.exceptions.GenericError("501 Not Implemented: <Code>NotImplemented</Code>")
        return put(store, key, data)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module.obstore, "put", without_conditions)
    ImageStore(tmp_path.as_uri()).put("j1", "1-a", b"png")
    assert asked == ["create", None]


def test_records_and_images_of_earlier_versions_stay_readable(jobs: Jobs, tmp_path: Path) -> None:
    store = ImageStore(tmp_path.as_uri())
    job_id = jobs.submit()
    worker = jobs.worker()
    new = worker.claim(job_id)
    worker.release(job_id, new.token, fault=FAULT)
    # A worker of an earlier version claims: it counts `token`, and leaves the fence of the claim before.
    old = {"state": "running", "token": "2", "attempt": "2"}
    jobs.redis.hset(keys.job(job_id), mapping=old)
    record = read_record(job_id, jobs.redis.hgetall(keys.job(job_id)))
    assert record.token == "2"
    assert worker.renew(job_id, new.token) == "lost"
    assert worker.renew(job_id, "2") == "ok"
    keys_of = [store.put(job_id, token, b"png").key for token in ("2", "1", new.token)]
    assert {image.token for page in store.older_than(0) for image in page} == {"1", new.token, "2"}
    files = [ImageFile(key, job_id, key.partition("/")[2].removesuffix(".png"), 9.0) for key in keys_of]
    assert worker.orphans_among(files) == keys_of[1:]
    assert worker.finish(job_id, "2", State.SUCCEEDED, result={**RESULT, "key": keys_of[0]}) == State.SUCCEEDED
