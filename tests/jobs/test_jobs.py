"""The transitions of a job, on a real Redis-protocol server. `test_cancel.py` has those of a cancel."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from jobs import keys
from jobs.board import QueueFull
from jobs.claims import JobClaims
from jobs.envelope import WINDOW
from jobs.limits import JobLimits
from jobs.record import State
from testkit.jobs import FAULT, RESULT, Jobs
from testkit.processes import eventually


def test_a_submitted_job_is_queued_with_its_input_and_place(jobs: Jobs) -> None:
    first, second = jobs.submit(), jobs.submit()
    view = jobs.get(second)
    assert view.record.state == State.QUEUED
    assert view.record.input == {"prompt": "a"}
    assert view.record.metadata == {"mine": "1"}
    assert (jobs.get(first).queue_position, view.queue_position) == (0, 1)


def test_rq_itself_reads_what_lies_on_its_list(jobs: Jobs) -> None:
    job_id = jobs.submit()
    queue = Queue(keys.QUEUE, connection=Redis.from_url(jobs.server.url), serializer=JSONSerializer)
    assert queue.get_job_ids() == [job_id]
    job = Job.fetch(job_id, connection=queue.connection, serializer=JSONSerializer)
    assert job.func_name == "worker.rq_worker.paint_job"
    assert not job.args, "RQ has the id and nothing else"


def test_rq_holds_a_short_window_and_the_order_survives_beyond_it(jobs: Jobs) -> None:
    submitted = [jobs.submit() for _ in range(WINDOW + 5)]
    assert jobs.redis.llen(keys.RQ_LIST) == WINDOW
    assert jobs.get(submitted[-1]).queue_position == WINDOW + 4
    worker, taken = jobs.worker(), []
    while popped := jobs.pop():
        assert worker.claim(popped)
        taken.append(popped)
    assert taken == submitted


def test_a_full_queue_accepts_nothing(jobs: Jobs) -> None:
    jobs.submit(max_queued=1)
    with pytest.raises(QueueFull):
        jobs.submit("f" * 32, max_queued=1)
    assert jobs.get("f" * 32) is None


def test_a_repeated_submit_of_one_id_is_one_job(jobs: Jobs) -> None:
    job_id = jobs.submit()
    assert jobs.submit(job_id) == job_id
    assert jobs.redis.lrange(keys.RQ_LIST, 0, -1) == [job_id]


def test_a_job_is_claimed_once(jobs: Jobs) -> None:
    job_id = jobs.submit()
    record = jobs.worker("a").claim(job_id)
    assert record is not None
    assert (record.state, record.attempt, record.token[:2]) == (State.RUNNING, 1, "1-")
    assert jobs.worker("b").claim(job_id) is None
    assert jobs.redis.llen(keys.RQ_LIST) == 0


def test_a_result_is_committed_once_and_keeps_its_fields(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    worker.claim(job_id)
    worker.progress(job_id, jobs.token(job_id), step=3, total_steps=5, phase="denoising")
    assert jobs.get(job_id).record.step == 3
    assert (
        worker.finish(job_id, jobs.token(job_id), State.SUCCEEDED, result=RESULT, timings={"load": 0.0})
        == State.SUCCEEDED
    )
    assert worker.finish(job_id, jobs.token(job_id), State.FAILED, error={}) == State.SUCCEEDED, (
        "a repeated call returns how the job ended"
    )
    record = jobs.get(job_id).record
    assert (record.state, record.result, record.timings, record.error) == (State.SUCCEEDED, RESULT, {"load": 0.0}, None)
    assert record.expires_at == record.finished_at + 86_400_000


def test_a_repeated_call_after_a_lost_answer_changes_nothing(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    first = worker.claim(job_id, nonce="0" * 32)
    assert first is not None
    assert worker.claim(job_id, nonce="0" * 32) == first
    assert worker.claim(job_id) is None, "another claim of this worker finds the job taken"
    assert worker.release(job_id, jobs.token(job_id), fault=FAULT) == State.QUEUED
    assert worker.release(job_id, jobs.token(job_id), fault=FAULT) == State.QUEUED
    assert jobs.get(job_id).record.attempt == 1
    assert jobs.redis.lrange(keys.RQ_LIST, 0, -1) == [job_id]


def test_a_late_attempt_changes_nothing(jobs: Jobs) -> None:
    job_id, late, other = jobs.submit(), jobs.worker("late"), jobs.worker("other")
    token = late.claim(job_id).token
    jobs.expire_lease(job_id)
    assert other.reconcile() == (1, 0)
    assert other.claim(job_id).token.startswith("2-")
    before = jobs.get(job_id)
    assert late.renew(job_id, token) == "lost"
    assert late.progress(job_id, token, step=9) == "lost"
    assert late.finish(job_id, token, State.SUCCEEDED, result=RESULT) is None
    assert late.release(job_id, token, fault=FAULT) is None
    assert jobs.get(job_id).record == before.record


def test_a_renewed_lease_is_left_alone(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    worker.claim(job_id)
    jobs.expire_lease(job_id)
    assert worker.renew(job_id, jobs.token(job_id)) == "ok"
    assert worker.reconcile() == (0, 0)
    assert jobs.get(job_id).record.state == State.RUNNING


def test_a_dead_workers_job_goes_back_to_its_place(jobs: Jobs) -> None:
    first, second = jobs.submit(), jobs.submit()
    assert jobs.worker().claim(jobs.pop())
    jobs.expire_lease(first)
    many = [jobs.worker(str(n)).reconcile()[0] for n in range(3)]
    assert sum(many) == 1
    assert jobs.get(first).record.state == State.QUEUED
    assert sorted(jobs.redis.lrange(keys.RQ_LIST, 0, -1)) == sorted([first, second])
    assert jobs.get(first).record.attempt == 1


def test_many_reapers_at_once_put_a_job_back_once(jobs: Jobs) -> None:
    worker = jobs.worker("dead")
    ids = [jobs.submit() for _ in range(60)]
    for job_id in ids:
        assert worker.claim(job_id)
        jobs.expire_lease(job_id)
    with ThreadPoolExecutor(8) as pool:
        claims = [JobClaims(jobs.server.client(), str(n), JobLimits(dispatch_grace_seconds=0)) for n in range(8)]
        rescued = list(pool.map(lambda claim: claim.reconcile()[0], claims * 4))
    assert sum(rescued) == len(ids)
    taken = []
    while job_id := jobs.take():
        taken.append(job_id)
    assert taken == ids, "each once, in the original order"


def test_a_job_popped_and_never_claimed_is_handed_out_again(jobs: Jobs) -> None:
    job_id = jobs.submit()
    assert jobs.pop() == job_id
    assert jobs.pop() is None
    time.sleep(0.01)
    assert jobs.worker().reconcile() == (0, 1)
    assert jobs.redis.lrange(keys.RQ_INTERMEDIATE, 0, -1) == []
    assert jobs.pop() == job_id


def test_a_job_that_ends_every_attempt_fails_and_says_why(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    for attempt in (1, 2, 3):
        assert worker.claim(job_id).attempt == attempt
        entered = worker.release(job_id, jobs.token(job_id), fault=FAULT)
    assert entered == State.FAILED
    assert jobs.get(job_id).record.error["detail"] == "because"


def test_expired_leases_count_as_attempts(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker(max_attempts=1)
    worker.claim(job_id)
    jobs.expire_lease(job_id)
    worker.reconcile()
    record = jobs.get(job_id).record
    assert record.state == State.FAILED
    assert record.error["type"] == "urn:panoramas:problem:attempts-used-up"
    assert record.error["detail"] == "attempt 1 of 1: its worker died or was silent for 5 s"


def test_a_worker_that_stops_on_purpose_gives_its_attempt_back(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker(max_attempts=1)
    for _ in range(3):
        assert worker.claim(job_id).attempt == 1
        assert worker.release(job_id, jobs.token(job_id), fault=FAULT, give_back=True) == State.QUEUED


def test_past_its_retention_a_job_becomes_a_tombstone(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker(retention_seconds=0)
    worker.claim(job_id)
    worker.finish(job_id, jobs.token(job_id), State.SUCCEEDED, result=RESULT)
    assert [record.id for record in eventually(worker.due_for_expiry, 2)] == [job_id]
    worker.expire(job_id)
    record = jobs.get(job_id).record
    assert (record.state, record.input, record.metadata, record.result) == (State.EXPIRED, {}, {}, None)
    assert 0 < jobs.redis.ttl(keys.job(job_id)) <= 7 * 86_400
    assert worker.due_for_expiry() == []


def test_estimates_follow_the_pace_of_the_jobs_before(jobs: Jobs) -> None:
    ids = [jobs.submit() for _ in range(3)]
    worker = jobs.worker()
    assert jobs.get(ids[2]).eta_seconds is None, "nothing is known yet"
    worker.claim(ids[0])
    jobs.redis.hset(keys.job(ids[0]), "started_at", worker.now() - 10_000)
    worker.finish(ids[0], jobs.token(ids[0]), State.SUCCEEDED, result=RESULT)
    assert jobs.get(ids[2]).eta_seconds is None, "no worker is alive"
    worker.heartbeat()
    assert jobs.get(ids[1]).eta_seconds == pytest.approx(10, abs=1)
    assert jobs.get(ids[2]).eta_seconds == pytest.approx(20, abs=2)


def test_a_running_jobs_estimate_follows_its_own_steps(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    worker.claim(job_id)
    now = worker.now()
    worker.progress(job_id, jobs.token(job_id), step=4, total_steps=10, denoising_at=now - 8_000, stepped_at=now)
    assert jobs.get(job_id).eta_seconds == pytest.approx(12, abs=1)


def test_a_field_of_a_later_version_is_left_alone(jobs: Jobs) -> None:
    job_id, worker = jobs.submit(), jobs.worker()
    jobs.redis.hset(keys.job(job_id), "from_the_future", json.dumps({"x": 1}))
    assert worker.claim(job_id).state == State.RUNNING
    assert jobs.redis.hget(keys.job(job_id), "from_the_future") == '{"x": 1}'
