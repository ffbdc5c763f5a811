"""The server's clock is set, or the server was away: no live lease is lost, and a dead one ends one lease later."""

from __future__ import annotations

from importlib.resources import files

import pytest

from jobs import keys, scripts
from jobs.abilities import Abilities
from jobs.claims import CannotPaint, JobClaims
from jobs.limits import JobLimits
from jobs.record import State
from testkit.jobs import Jobs

LEASE = 10
_READ = "local time = redis.call('TIME')\n"


class Clock:
    """The server's clock as the scripts see it, `offset` milliseconds from the true one."""

    KEY = "test:offset"

    def __init__(self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        self._redis = jobs.redis
        read = scripts._read

        def with_offset(part: str) -> str:
            shifted = f"{_READ}  time[1] = time[1] + tonumber(redis.call('GET', '{self.KEY}') or 0) / 1000\n"
            return read(part).replace(_READ, shifted)

        monkeypatch.setattr(scripts, "_read", with_offset)

    def jump(self, seconds: float) -> None:
        self._redis.incrby(self.KEY, int(seconds * 1000))

    def run(self, seconds: int, *living: JobClaims) -> None:
        """Time passes, while these workers live."""
        for _ in range(seconds):
            self.jump(1)
            for worker in living:
                worker.beat(1)


@pytest.fixture
def clock(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(jobs, monkeypatch)


def worker(jobs: Jobs, name: str) -> JobClaims:
    return jobs.worker(name, lease_seconds=LEASE)


@pytest.mark.parametrize("seconds", [60, -60, 3600, -3600])
@pytest.mark.parametrize("first", ["a renewal", "a reconciliation"])
def test_a_clock_that_jumps_takes_no_live_lease(jobs: Jobs, clock: Clock, seconds: int, first: str) -> None:
    crew = [worker(jobs, str(number)) for number in range(4)]
    attempts = [crew[number].claim(jobs.submit()) for number in range(4)]
    reaper = worker(jobs, "reaper")
    clock.run(3, reaper)
    clock.jump(seconds)
    if first == "a renewal":
        assert crew[0].renew(attempts[0].id, attempts[0].token) == "ok"
    assert reaper.reconcile() == (0, 0)
    for _ in range(LEASE + 2):
        clock.run(1, reaper)
        assert reaper.reconcile() == (0, 0)
        assert {one.renew(made.id, made.token) for one, made in zip(crew, attempts, strict=True)} == {"ok"}


@pytest.mark.parametrize("seconds", [60, -60])
def test_the_lease_of_a_dead_worker_ends_one_lease_after_the_jump(jobs: Jobs, clock: Clock, seconds: int) -> None:
    job_id, living = jobs.submit(), worker(jobs, "living")
    worker(jobs, "dead").claim(job_id)
    clock.run(1, living)
    clock.jump(seconds)
    clock.run(LEASE - 1, living)
    assert jobs.get(job_id).record.state == State.RUNNING
    clock.run(3, living)
    assert jobs.get(job_id).record.state == State.QUEUED


def test_after_a_server_was_away_or_set_back_everyone_gets_a_whole_lease(jobs: Jobs, clock: Clock) -> None:
    job_id, living = jobs.submit(), worker(jobs, "living")
    attempt = worker(jobs, "slow to come back").claim(job_id)
    clock.run(1, living)
    clock.jump(LEASE + 5)  # nobody notes the time meanwhile
    clock.run(LEASE - 1, living)
    assert living.renew(job_id, attempt.token) == "ok"


def test_small_steps_of_the_clock_give_nobody_more_time(jobs: Jobs, clock: Clock) -> None:
    """As NTP makes them all day long: a dead worker's jobs would otherwise never be put back."""
    job_id, living = jobs.submit(), worker(jobs, "living")
    worker(jobs, "dead").claim(job_id)
    for _ in range(LEASE + 2):
        clock.run(1, living)
        clock.jump(-0.2)
        clock.run(0, living)
        clock.jump(0.2)
    assert jobs.get(job_id).record.state == State.QUEUED


def test_a_jump_fails_no_job_that_waits_for_its_model(jobs: Jobs, clock: Clock) -> None:
    limits = JobLimits(lease_seconds=LEASE, dispatch_grace_seconds=0, model_grace_seconds=5)
    unable = JobClaims(jobs.redis, "unable", limits, Abilities(["b"]))
    able = JobClaims(jobs.redis, "able", limits, Abilities(["a"]))
    job_id = jobs.submit()
    jobs.redis.hset(keys.job(job_id), "input", '{"model": "a"}')
    clock.run(1, unable, able)
    with pytest.raises(CannotPaint):
        unable.claim(jobs.pop() or "")
    clock.jump(60)  # all heartbeats seem old
    clock.run(4, unable)
    assert jobs.get(job_id).record.state == State.QUEUED
    clock.run(8, unable, able)
    assert able.claim_refused().id == job_id


def test_the_clock_is_read_in_one_place() -> None:
    sources = [path for path in files(scripts).iterdir() if path.name.endswith(".lua")]
    assert [path.name for path in sources if "'TIME'" in path.read_text()] == ["clock.lua"]
