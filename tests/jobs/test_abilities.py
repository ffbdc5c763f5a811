"""Workers that cannot paint every model: a job waits for one that can, and fails with the reason if there is none."""

from __future__ import annotations

import json
import logging
import time

import pytest

from jobs import keys
from jobs.abilities import Abilities, unavailable
from jobs.claims import CannotPaint, JobClaims
from jobs.limits import JobLimits
from jobs.record import State
from jobs.scripts import MOST_REFUSED
from testkit.jobs import Jobs


def worker(jobs: Jobs, name: str, *models: str, broken: str = "", grace: float = 10) -> JobClaims:
    """A living worker that paints `models`, `broken` not any more."""
    abilities = Abilities(models)
    if broken:
        abilities.mark_broken(broken, "its files are gone")
    limits = JobLimits(lease_seconds=5, dispatch_grace_seconds=0, model_grace_seconds=grace)
    claims = JobClaims(jobs.redis, name, limits, abilities)
    claims.heartbeat()
    return claims


def submit(jobs: Jobs, model: str) -> str:
    job_id = jobs.submit()
    jobs.redis.hset(keys.job(job_id), "input", json.dumps({"prompt": "a", "model": model}))
    return job_id


@pytest.mark.parametrize("models", [("a", "b"), ("b",)], ids=["broken", "of an older version"])
def test_a_worker_that_cannot_paint_a_model_is_refused_its_jobs_and_another_gets_them(
    jobs: Jobs, models: tuple[str, ...]
) -> None:
    unable, healthy = worker(jobs, "unable", *models, broken="a"), worker(jobs, "healthy", "a", "b")
    first, second, other = submit(jobs, "a"), submit(jobs, "a"), submit(jobs, "b")
    for _ in range(4):  # each once more, which wakes up a worker that waits on the list
        with pytest.raises(CannotPaint):
            unable.claim(jobs.pop() or "")
    assert jobs.get(first).queue_position == 0, "it keeps its position"
    assert unable.claim(jobs.pop() or "").id == other, "jobs of other models are not held up"
    assert unable.claim_refused() is None
    assert unable.reconcile() == (0, 0), "a refused job does not count as lost"
    taken = [healthy.claim_refused() for _ in range(3)]
    assert [(record.id, record.attempt) for record in taken if record] == [(first, 1), (second, 1)]
    assert jobs.redis.zcard(keys.REFUSED) == 0


def test_a_job_that_no_living_worker_can_paint_fails_with_the_reason(jobs: Jobs) -> None:
    unable = worker(jobs, "unable", "a", "b", broken="a", grace=0.05)
    broken, unknown = submit(jobs, "a"), submit(jobs, "c")
    for _ in range(2):
        with pytest.raises(CannotPaint):
            unable.claim(jobs.pop() or "")
    unable.reconcile()
    assert jobs.get(broken).record.state == State.QUEUED, "it waits for a while"
    time.sleep(0.1)
    unable.reconcile()
    first, second = jobs.get(broken).record, jobs.get(unknown).record
    assert (first.state, first.attempt, second.state) == (State.FAILED, 0, State.FAILED)
    assert first.error == {
        "type": "urn:panoramas:problem:model-unavailable",
        "title": "The model cannot be loaded",
        "status": 500,
        "detail": "its files are gone",
    }
    assert second.error["detail"] == "no worker has the model c"


@pytest.mark.parametrize("entry", ["able", "of an earlier version"])
def test_a_job_waits_for_a_living_worker_that_can_paint_it_however_busy_it_is(jobs: Jobs, entry: str) -> None:
    unable = worker(jobs, "unable", "b", grace=0)
    worker(jobs, "busy", "a")
    if entry == "of an earlier version":
        jobs.redis.hdel(keys.ABILITIES, "busy")
    job_id = submit(jobs, "a")
    with pytest.raises(CannotPaint):
        unable.claim(jobs.pop() or "")
    time.sleep(0.01)
    unable.reconcile()
    assert jobs.get(job_id).record.state == State.QUEUED


def test_a_refused_job_can_be_canceled(jobs: Jobs) -> None:
    unable = worker(jobs, "unable", "b")
    job_id = submit(jobs, "a")
    with pytest.raises(CannotPaint):
        unable.claim(jobs.pop() or "")
    jobs.cancel(job_id)
    assert jobs.get(job_id).record.state == State.CANCELED
    assert worker(jobs, "healthy", "a").claim_refused() is None


def test_a_worker_that_cannot_paint_does_not_take_the_whole_queue_out_of_its_order(jobs: Jobs) -> None:
    unable, healthy = worker(jobs, "unable", "b"), worker(jobs, "healthy", "a")
    submitted = [submit(jobs, "a") for _ in range(MOST_REFUSED + 10)]
    for _ in range(2 * MOST_REFUSED + 30):
        with pytest.raises(CannotPaint):
            unable.claim(jobs.pop() or "")
    assert jobs.redis.zcard(keys.REFUSED) == MOST_REFUSED
    taken = []
    while record := healthy.claim_refused():
        taken.append(record.id)
    while popped := jobs.pop():
        assert healthy.claim(popped)
        taken.append(popped)
    assert set(taken[:MOST_REFUSED]) == set(submitted[:MOST_REFUSED])
    assert sorted(taken) == sorted(submitted)


def test_a_worker_that_leaves_or_dies_takes_its_abilities_with_it(jobs: Jobs) -> None:
    leaving, dead, living = (worker(jobs, name, "a") for name in ("leaving", "dead", "living"))
    leaving.heartbeat(leaving=True)
    jobs.redis.zadd(keys.WORKERS, {"dead": dead.now() - 61_000})
    living.heartbeat()
    assert set(jobs.redis.hgetall(keys.ABILITIES)) == {"living"}


def test_a_model_that_could_not_be_loaded_is_tried_again_later_and_the_log_says_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    abilities = Abilities(["a", "b"], retry_seconds=0.05)
    with caplog.at_level(logging.ERROR):
        abilities.mark_broken("a", "no such folder")
        assert abilities.able == ["b"]
        time.sleep(0.06)
        assert abilities.able == ["a", "b"]
        assert json.loads(abilities.entry())["able"] == ["b"], "others still read that it is broken"
        abilities.mark_broken("a", "no such folder")
    assert caplog.text.count("no such folder") == 1
    abilities.mark_loaded("a")
    assert json.loads(abilities.entry()) == {"able": ["a", "b"], "broken": {}}


def test_operators_read_on_how_many_workers_a_model_cannot_be_loaded() -> None:
    broken = json.dumps({"able": [], "broken": {"a": "no such folder"}})
    assert unavailable({"w1": broken, "w2": None, "w3": json.dumps({"able": ["a"], "broken": {}})}) == {
        "a": "on 1 of 3 workers: no such folder"
    }
