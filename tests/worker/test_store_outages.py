"""An image store that is away, hangs, or is not the API's: no job pays for that, and no painted picture is lost."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import keys
from testkit.fake_model import STEP_SECONDS
from testkit.fake_model_stack import LEASE, checker_of, worker
from testkit.job_checker import JobChecker
from testkit.processes import eventually, running_stack
from testkit.proxy import Proxy, proxy_to
from testkit.s3_server import S3Server, s3_server
from testkit.workerless import model_on_paper


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def network(s3: S3Server) -> Iterator[Proxy]:
    """What is between the service and its store."""
    with proxy_to(s3.url) as proxy:
        yield proxy


@pytest.fixture
def bucket(tmp_path: Path, s3: S3Server, network: Proxy) -> Iterator[JobChecker]:
    """A service without workers that keeps its images in a bucket."""
    settings = {"LEASE_SECONDS": str(LEASE), "STORE_TIMEOUT": "1", "STORE_CALL_TIMEOUT": "1", "DRAIN_SECONDS": "2"}
    environment = {f"PANORAMAS_{name}": value for name, value in settings.items()} | s3.environment(network.url)
    with (
        running_stack(tmp_path, model_on_paper(tmp_path), workers=0, **environment) as stack,
        checker_of(stack) as checker,
    ):
        yield checker
        network.resume()


def kept(checker: JobChecker) -> list[Path]:
    return sorted((checker.stack.folder / "data" / "kept").glob("*"))


def said(checker: JobChecker, text: str) -> bool:
    return text in checker.stack.log()


def metric(checker: JobChecker, name: str) -> float:
    return next(
        float(line.split()[1]) for line in checker.http.get("/metrics").text.splitlines() if line.startswith(f"{name} ")
    )


@pytest.mark.parametrize("fault", ["refuse", "swallow"])
def test_a_store_that_is_away_costs_no_attempt_and_no_job_is_claimed_meanwhile(
    bucket: JobChecker, network: Proxy, fault: str
) -> None:
    """Two pictures are painted, being in hand; both are kept, for this user alone, and delivered without painting."""
    process = worker(bucket, **{STEP_SECONDS: "0.1"})
    first = bucket.submit(num_inference_steps=10)
    bucket.running(first, step=2)
    getattr(network, fault)()
    second, *others = [bucket.submit(seed=seed) for seed in range(4)]
    in_hand = [first, second]
    eventually(lambda: {bucket.get(job_id)["state"] for job_id in in_hand} == {"queued"} and len(kept(bucket)) == 2, 30)
    assert [path.stem for path in kept(bucket)] == sorted(in_hand)
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept(bucket)} == {0o600}
    assert stat.S_IMODE(kept(bucket)[0].parent.stat().st_mode) == 0o700
    time.sleep(LEASE)
    assert [bucket.get(job_id)["attempt"] for job_id in (first, second, *others)] == [0] * 5
    assert bucket.http.get("/readyz").status_code == 503
    assert (metric(bucket, "panoramas_pictures_kept"), metric(bucket, "panoramas_workers_out")) == (2, 1)
    assert bucket.stack.log().count("takes no jobs until it can store pictures") <= 2, "a picture; a probe"
    with bucket.stack.redis.client() as redis:
        (entry,) = redis.hvals(keys.ABILITIES)
    assert "cannot be written" in entry or "cannot be stored" in entry
    assert "127.0.0.1" not in entry, "anybody can read that"
    network.resume()
    assert [bucket.ended(job_id)["attempt"] for job_id in (first, second, *others)] == [1] * 5
    for job_id in in_hand:
        assert said(bucket, f"job {job_id}: attempt 1 delivers a kept picture")
    assert kept(bucket) == []
    assert bucket.http.get("/readyz").json().get("workers_out") is None
    assert process.poll() is None


def test_a_picture_outlives_the_worker_that_keeps_it(bucket: JobChecker, network: Proxy) -> None:
    process = worker(bucket)
    job_id, canceled = bucket.submit(num_inference_steps=20), bucket.submit(seed=8)
    bucket.running(job_id, step=2)
    network.swallow()
    eventually(
        lambda: {bucket.get(one)["state"] for one in (job_id, canceled)} == {"queued"} and len(kept(bucket)) == 2
    )
    process.kill()
    process.wait()
    bucket.http.post(f"/jobs/{canceled}/cancel")
    network.resume()
    worker(bucket)
    assert bucket.ended(job_id)["attempt"] == 1
    assert said(bucket, f"job {job_id}: attempt 1 delivers a kept picture")
    eventually(lambda: kept(bucket) == [], 10, "what nobody needs is deleted")
    assert bucket.get(canceled)["state"] == "canceled"


def test_a_worker_told_to_stop_while_its_store_hangs_leaves_in_time_and_the_next_delivers(
    bucket: JobChecker, network: Proxy
) -> None:
    process = worker(bucket, PANORAMAS_STORE_TIMEOUT="60")
    job_id = bucket.submit(num_inference_steps=20)
    bucket.running(job_id, step=2)
    network.swallow()
    eventually(lambda: len(kept(bucket)) == 1, 20)
    time.sleep(LEASE * 1.5)
    assert (bucket.get(job_id)["state"], bucket.get(job_id)["attempt"]) == ("running", 1), "its lease is renewed"
    process.terminate()
    assert process.wait(10) == 0
    network.resume()
    worker(bucket)
    assert bucket.ended(job_id)["attempt"] == 1
    assert said(bucket, f"job {job_id}: attempt 1 delivers a kept picture")


def test_a_picture_that_alone_cannot_be_stored_fails_its_job_and_costs_no_other(checker: JobChecker) -> None:
    images = checker.stack.folder / "data" / "images"
    broken, good = checker.submit(), checker.submit(seed=8)
    images.mkdir(exist_ok=True)
    (images / broken).write_bytes(b"in the way")  # of its folder
    worker(checker, PANORAMAS_STORE_TIMEOUT="0")
    job = checker.ended(broken)
    assert job["state"] == "failed"
    assert job["error"]["type"] == "urn:panoramas:problem:store-failed"
    assert job["error"]["detail"].startswith("attempt 3 of 3: the image cannot be stored")
    assert checker.ended(good)["state"] == "succeeded"
    assert kept(checker) == []


def test_a_worker_with_another_store_than_the_api_takes_no_job_and_readyz_says_so(
    checker: JobChecker, tmp_path: Path
) -> None:
    eventually(lambda: checker.http.get("/readyz").is_success, 10)
    other = worker(checker, PANORAMAS_STORE_URL=(tmp_path / "elsewhere").as_uri())
    job_id = checker.submit()

    def why_out() -> str:
        return "".join((checker.http.get("/readyz").json().get("workers_out") or {}).values())

    eventually(lambda: "its image store is not the API's" in why_out(), 20)
    assert said(checker, "its image store is not the API's")
    time.sleep(1)
    assert checker.get(job_id)["state"] == "queued"
    other.kill()
    other.wait()
    worker(checker)
    assert checker.ended(job_id)["state"] == "succeeded"


@pytest.mark.chaos
def test_a_store_away_for_a_minute_under_load_loses_no_job_and_charges_none(
    bucket: JobChecker, network: Proxy, tmp_path: Path
) -> None:
    """40 jobs on three workers, each with a disk of its own, so that a kept picture may be painted again elsewhere."""
    folders = [tmp_path / f"disk-{number}" for number in range(3)]
    for folder in folders:
        worker(bucket, PANORAMAS_DATA_DIR=str(folder), **{STEP_SECONDS: "0.1"})
    submitted = [bucket.submit(seed=seed, num_inference_steps=20) for seed in range(40)]
    eventually(lambda: sum(bucket.get(job_id)["state"] == "succeeded" for job_id in submitted) >= 6, 60)
    network.swallow()
    time.sleep(30)
    network.resume()
    network.refuse()
    time.sleep(30)
    pictures = [path for folder in folders for path in folder.glob("kept/*.kept")]
    network.resume()
    ended = [bucket.ended(job_id, 180) for job_id in submitted]
    assert {(job["state"], job["attempt"]) for job in ended} == {("succeeded", 1)}
    assert 0 < len(pictures) <= 6
    eventually(lambda: not any(path.exists() for path in pictures), 40)
    delivered = bucket.stack.log().count("delivers a kept picture")
    print(f"{len(pictures)} kept, {delivered} of them delivered, the others painted again by another worker")
