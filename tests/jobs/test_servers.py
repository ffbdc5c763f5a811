"""The servers that are supported: each transition runs on Redis 7.0 as on Valkey, and an older server is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import keys
from jobs.record import State
from jobs.server import UnsupportedServer, check_info, check_server
from testkit.jobs import FAULT, RESULT, Jobs
from testkit.processes import RedisServer, eventually


@pytest.fixture(scope="module")
def redis_7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The system's own Redis, which is 7.0 on Debian 12."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis-7"), binary=binary)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def jobs_on_redis_7(redis_7: RedisServer) -> Iterator[Jobs]:
    with redis_7.client() as redis:
        redis.flushall()
        yield Jobs(redis_7, redis)


def test_every_transition_runs_on_redis_7(jobs_on_redis_7: Jobs) -> None:
    jobs = jobs_on_redis_7
    check_server(jobs.server.url)
    worker = jobs.worker(retention_seconds=0)
    first = jobs.submit(webhook_url="https://example.org/hook")
    assert worker.claim(first) is not None
    assert worker.renew(first, jobs.token(first)) == "ok"
    assert worker.progress(first, jobs.token(first), step=1) == "ok"
    assert worker.release(first, jobs.token(first), fault=FAULT, give_back=True) == State.QUEUED
    assert worker.claim(first) is not None
    jobs.expire_lease(first)
    assert worker.reconcile()[0] == 1
    assert worker.claim(first) is not None
    assert worker.finish(first, jobs.token(first), State.SUCCEEDED, result=RESULT) == State.SUCCEEDED
    canceled = jobs.submit()
    assert jobs.cancel(canceled)
    assert jobs.get(canceled).record.state == State.CANCELED
    worker.heartbeat()
    assert worker.claim_refused() is None


def test_a_job_whose_webhook_was_delivered_expires_on_redis_7(jobs_on_redis_7: Jobs) -> None:
    jobs = jobs_on_redis_7
    worker, job_id = jobs.worker(retention_seconds=0), jobs.submit(webhook_url="https://example.org/hook")
    worker.claim(job_id)
    worker.finish(job_id, jobs.token(job_id), State.SUCCEEDED, result=RESULT)
    for target in jobs.redis.zrange(keys.OUTBOX_TARGETS, 0, -1):
        jobs.redis.delete(keys.OUTBOX + str(target))  # as it is once the call was made
    eventually(worker.due_for_expiry, 2)
    worker.expire(job_id)
    assert jobs.get(job_id).record.state == State.EXPIRED
    assert worker.due_for_expiry() == []


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"redis_version": "6.2.14"}, "is Redis 6.2.14; needed is Redis 7.0 or Valkey 8.0 or newer"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.9"}, "is Valkey 7.2.9"),
        ({}, "is Redis 0"),
    ],
)
def test_an_older_server_is_refused_in_one_sentence(info: dict[str, str], words: str) -> None:
    with pytest.raises(UnsupportedServer, match=words):
        check_info(info)


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "7.0.15"},
        {"redis_version": "8.2.0"},
        {"redis_version": "10.0.0"},
        {"redis_version": "7.2.4", "valkey_version": "8.0.1"},
        {"redis_version": "7.2.4", "valkey_version": "9.1.2"},
    ],
)
def test_a_supported_server_is_accepted(info: dict[str, str]) -> None:
    check_info(info)


def test_a_server_that_does_not_answer_is_not_refused(tmp_path: Path) -> None:
    check_server(f"unix://{tmp_path}/nothing.sock")
