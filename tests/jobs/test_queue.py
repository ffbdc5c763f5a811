"""The order of the queue: priorities without starvation, owners in turn, and positions that hold true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError

from jobs import keys
from jobs.envelope import WINDOW
from jobs.record import State
from jobs.scripts import MOST_MOVED, SHARE
from testkit.jobs import FAULT, RESULT, Jobs
from testkit.processes import eventually


def _take_all(jobs: Jobs) -> list[str]:
    taken = []
    while job_id := jobs.take():
        taken.append(job_id)
    return taken


def test_interactive_jobs_go_before_batch_jobs_which_are_not_starved(jobs: Jobs) -> None:
    batch = [jobs.submit(priority="batch") for _ in range(6)]
    interactive = [jobs.submit() for _ in range(12)]
    handed, taken = batch[:WINDOW], _take_all(jobs)
    assert taken[:WINDOW] == handed, "jobs on RQ's list go first"
    waiting = taken[WINDOW:]
    turns = [job_id in batch for job_id in waiting]
    a_turn = [False] * SHARE + [True]
    assert turns == (a_turn * 3)[: len(turns)] + [True] * (len(turns) - 15)
    assert [job_id for job_id in taken if job_id in batch] == batch
    assert [job_id for job_id in taken if job_id in interactive] == interactive


def test_an_owner_of_many_jobs_does_not_hold_up_another(jobs: Jobs) -> None:
    many = [jobs.submit(owner="a") for _ in range(10)]
    few = [jobs.submit(owner="b") for _ in range(3)]
    taken = _take_all(jobs)
    assert [taken.index(job_id) for job_id in few] == [WINDOW + 1, WINDOW + 3, WINDOW + 5]
    assert [job_id for job_id in taken if job_id in many] == many


def test_who_was_away_does_not_come_back_with_turns_saved_up(jobs: Jobs) -> None:
    jobs.submit(owner="b")
    early = [jobs.submit(owner="a") for _ in range(20)]
    for _ in range(15):
        jobs.take()
    late = [jobs.submit(owner="b") for _ in range(3)]
    rest = _take_all(jobs)
    assert rest.index(late[1]) - rest.index(late[0]) == 2
    assert early[-1] in rest


def test_every_place_in_the_queue_is_the_place_it_is_served_from(jobs: Jobs) -> None:
    lines = [{"owner": owner, "priority": priority} for owner in "abc" for priority in ("batch", "interactive")]
    submitted = [jobs.submit(**line) for _ in range(5) for line in lines]
    jobs.take()
    jobs.take()
    places = {job_id: jobs.get(job_id).queue_position for job_id in submitted}
    queued = {job_id: place for job_id, place in places.items() if place is not None}
    assert sorted(queued.values()) == list(range(len(queued)))
    assert _take_all(jobs) == sorted(queued, key=queued.__getitem__)


def test_a_job_that_is_put_back_keeps_its_place(jobs: Jobs) -> None:
    first, *others = [jobs.submit(priority="batch", owner="a") for _ in range(6)]
    taken = jobs.take()
    assert taken == first
    jobs.worker().release(first, jobs.token(first), fault=FAULT)
    assert _take_all(jobs)[: WINDOW + 1] == [*others[:WINDOW], first]


def test_a_full_server_refuses_a_submit_whole_and_lets_accepted_jobs_go_on(jobs: Jobs) -> None:
    queued, running = jobs.submit(), jobs.submit()
    worker = jobs.worker()
    worker.claim(running)
    before = jobs.redis.dbsize()
    jobs.redis.config_set("maxmemory", 1)
    try:
        for _ in range(2):
            with pytest.raises(OutOfMemoryError):
                jobs.submit("f" * 32)
        assert jobs.redis.dbsize() == before
        assert jobs.get("f" * 32) is None
        assert worker.renew(running, jobs.token(running)) == "ok"
        assert worker.progress(running, jobs.token(running), step=1) == "ok"
        assert worker.finish(running, jobs.token(running), State.SUCCEEDED, result=RESULT) == State.SUCCEEDED
        assert worker.claim(queued) is not None
        assert jobs.worker(lease_seconds=0.001).renew(queued, jobs.token(queued)) == "ok"
        assert eventually(lambda: worker.reconcile()[0] == 1, 2)
        assert jobs.cancel(queued)
        worker.expire(running)
        assert jobs.get(running).record.state == State.EXPIRED
    finally:
        jobs.redis.config_set("maxmemory", 0)


def test_the_last_part_of_the_memory_is_kept_for_what_was_accepted(jobs: Jobs) -> None:
    jobs.redis.config_set("maxmemory", int(jobs.redis.info("memory")["used_memory"] * 1.05))
    try:
        with pytest.raises(OutOfMemoryError):
            jobs.submit()
        assert jobs.redis.set("other", "still fits")
    finally:
        jobs.redis.config_set("maxmemory", 0)


RECORDED = Path(__file__).parent / "recorded" / "record-0.1.0.json"


def test_a_job_that_an_earlier_version_queued_is_served(jobs: Jobs) -> None:
    recorded = json.loads(RECORDED.read_text())
    jobs.redis.hset(keys.job("e" * 32), mapping=recorded)
    jobs.redis.zadd("panoramas:waiting", {"e" * 32: recorded["sequence"]})
    view = jobs.get("e" * 32)
    assert (view.record.state, view.queue_position) == (State.QUEUED, 0)
    assert (view.record.owner, view.record.priority) == ("", "interactive")
    jobs.worker().reconcile()
    record = jobs.worker("a").claim("e" * 32)
    assert record is not None
    assert record.input["prompt"] == "snowy mountains at sunset"
    assert jobs.worker("a").release("e" * 32, record.token, fault=FAULT) == State.QUEUED
    assert jobs.take() == "e" * 32


def test_a_job_that_a_later_version_queued_is_served_with_its_unknown_fields_untouched(jobs: Jobs) -> None:
    recorded = json.loads(RECORDED.read_text())
    recorded["input"] = json.dumps({**json.loads(recorded["input"]), "from_the_future": 1})
    jobs.redis.hset(keys.job("e" * 32), mapping={**recorded, "from_the_future": '{"x":1}', "priority": "urgent"})
    jobs.redis.zadd("panoramas:waiting", {"e" * 32: recorded["sequence"]})
    jobs.worker().reconcile()
    assert jobs.take() == "e" * 32
    assert jobs.redis.hget(keys.job("e" * 32), "from_the_future") == '{"x":1}'
    assert jobs.worker().finish("e" * 32, jobs.token("e" * 32), State.SUCCEEDED, result=RESULT) == State.SUCCEEDED


def test_a_record_that_lacks_what_came_later_is_read(jobs: Jobs) -> None:
    jobs.redis.hset(keys.job("e" * 32), mapping={"state": "queued", "sequence": 1, "created_at": 1, "input": "{}"})
    jobs.redis.zadd("panoramas:waiting", {"e" * 32: 1})
    jobs.worker().reconcile()
    assert jobs.take() == "e" * 32
    record = jobs.get("e" * 32).record
    assert (record.attempt, record.token[:2], record.metadata, record.notices) == (1, "1-", {}, [])


@pytest.mark.slow
@pytest.mark.parametrize("order", ["the first first", "the last first"])
def test_canceled_work_is_forgotten_by_the_fair_queue(jobs: Jobs, order: str) -> None:
    many = [jobs.submit(owner="a") for _ in range(MOST_MOVED + 20)]
    for _ in range(20):
        jobs.submit(owner="b")
    *canceled, kept = many
    for job_id in canceled if order == "the first first" else reversed(canceled):
        jobs.cancel(job_id)
    assert jobs.get(kept).queue_position <= WINDOW + 1
    jobs.cancel(kept)
    assert jobs.get(jobs.submit(owner="a")).queue_position <= WINDOW + 1


def test_a_cancel_keeps_the_order_of_the_owners_other_jobs(jobs: Jobs) -> None:
    lines = [{"owner": "a"}, {"owner": "b"}, {"owner": "a", "priority": "batch"}]
    submitted = {job_id: line for _ in range(6) for line in lines if (job_id := jobs.submit(**line))}
    canceled = [job_id for number, job_id in enumerate(submitted) if number in (6, 7, 9, 11)]
    for job_id in canceled:
        jobs.cancel(job_id)
    places = {job_id: jobs.get(job_id).queue_position for job_id in submitted if job_id not in canceled}
    assert sorted(places.values()) == list(range(len(places)))
    taken = _take_all(jobs)
    assert taken == sorted(places, key=places.__getitem__)
    for line in lines:
        assert [name for name in taken if submitted[name] == line] == [
            name for name in places if submitted[name] == line
        ]


def test_a_preview_is_written_once_and_obeys_the_limit_of_the_memory(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    token = worker.claim(job_id).token
    image = b"\xff" * 30_000
    assert worker.preview(job_id, token, 1, image) == "ok"
    stored = [jobs.redis.strlen(key) for key in jobs.redis.keys(keys.PREVIEW + "*")]
    assert sorted(stored) == [1, len(image) * 4 // 3]
    assert worker.preview(job_id, token, 2, image) == "ok"
    assert 0 < jobs.redis.ttl(keys.preview(job_id, 1)) <= 60 < jobs.redis.ttl(keys.preview(job_id, 2))
    assert jobs.redis.get(keys.preview(job_id, "latest")) == "2"
    jobs.redis.config_set("maxmemory", int(jobs.redis.info("memory")["used_memory"] * 1.05))
    try:
        assert worker.preview(job_id, token, 3, image) == "full"
        assert jobs.redis.get(keys.preview(job_id, 3)) is None
    finally:
        jobs.redis.config_set("maxmemory", 0)
    worker.finish(job_id, token, State.SUCCEEDED, result=RESULT)
    worker.expire(job_id)
    assert jobs.redis.keys(keys.PREVIEW + "*") == [keys.preview(job_id, 1)], "it has less than a minute left"


def test_a_tombstone_is_small(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(owner="somebody", webhook_url="https://example.org/hook"), jobs.worker()
    jobs.redis.hset(keys.job(job_id), mapping={"input": json.dumps({"prompt": "a" * 900}), "fingerprint": "f" * 64})
    worker.finish(job_id, worker.claim(job_id).token, State.SUCCEEDED, result=RESULT)
    full = jobs.get(job_id).record
    assert jobs.redis.memory_usage(keys.job(job_id)) > 1088
    worker.expire(job_id)
    assert jobs.redis.memory_usage(keys.job(job_id)) < 512
    left = jobs.get(job_id).record
    for name in ("owner", "fingerprint", "attempt", "created_at", "started_at", "finished_at", "sequence", "priority"):
        assert getattr(left, name) == getattr(full, name)
