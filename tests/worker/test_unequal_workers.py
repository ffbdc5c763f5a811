"""A worker that cannot paint a model, beside one that can and alone."""

from __future__ import annotations

from testkit.fake_model import CANNOT_LOAD, STEP_SECONDS
from testkit.fake_model_stack import worker
from testkit.job_checker import JobChecker
from testkit.processes import eventually


def test_a_worker_that_cannot_load_the_model_takes_no_job_from_one_that_can(checker: JobChecker) -> None:
    broken = worker(checker, PANORAMAS_MODEL_GRACE="30", **{CANNOT_LOAD: "tiny"})
    eventually(lambda: "unavailable_models" in checker.http.get("/readyz").json(), 30, "it says so")
    jobs = [checker.submit(seed=seed, num_inference_steps=2) for seed in range(30)]
    worker(checker, **{STEP_SECONDS: "0.1"})
    ended = [checker.ended(job_id) for job_id in jobs]
    assert {(job["state"], job["attempt"]) for job in ended} == {("succeeded", 1)}
    assert broken.poll() is None
    assert checker.http.get("/readyz").json()["unavailable_models"] == {"tiny": "on 1 of 2 workers: it is broken"}


def test_a_job_that_no_worker_can_paint_fails_with_the_reason_which_the_log_gives_once(checker: JobChecker) -> None:
    worker(checker, PANORAMAS_MODEL_GRACE="1", **{CANNOT_LOAD: "tiny"})
    for _ in range(2):
        job = checker.ended(checker.submit())
        assert (job["state"], job["attempt"]) == ("failed", 0)
        assert job["error"]["type"] == "urn:panoramas:problem:model-unavailable"
        assert job["error"]["detail"] == "it is broken"
    assert checker.stack.log().count("it is broken") == 1
    assert checker.http.get("/readyz").json() == {
        "status": "ok",
        "workers": 1,
        "unavailable_models": {"tiny": "on 1 of 1 workers: it is broken"},
    }


def test_a_worker_of_an_older_list_of_models_leaves_what_it_does_not_know(checker: JobChecker) -> None:
    worker(checker, PANORAMAS_MODELS="demo", PANORAMAS_MODEL_GRACE="60")
    job_id = checker.submit()
    eventually(lambda: f"job {job_id}: this worker cannot paint its model" in checker.stack.log(), 30)
    worker(checker)
    assert (checker.ended(job_id)["state"], checker.get(job_id)["attempt"]) == ("succeeded", 1)
