"""The page shows every phase that a running job reports, and no other."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from testkit.workerless import WorkerlessApi
from tests.page.visitor import Visitor

REPORTED_BY_THE_WORKER = {
    "loading": "Loading the model",
    "encoding": "Reading the prompt",
    "denoising": "Painting",
    "decoding": "Decoding the picture",
}


def test_each_phase_of_a_running_job_has_its_label(page: Page, workerless: WorkerlessApi) -> None:
    job_id = workerless.submit()["id"]
    visitor = Visitor(page, workerless.stack.url)
    visitor.open(f"/#/jobs/{job_id}")
    expect(visitor.phase).to_have_text("Waiting")
    record = workerless.claim(job_id)
    expect(visitor.phase).to_have_text("Starting")
    for phase, label in REPORTED_BY_THE_WORKER.items():
        workerless.claims.progress(record.id, record.token, step=0, total_steps=5, phase=phase)
        expect(visitor.phase).to_have_text(label)
    workerless.succeed(record)
    expect(visitor.viewer).to_be_visible()
    expect(visitor.phase).to_be_hidden()


def test_an_unknown_phase_is_shown_by_its_name(page: Page, workerless: WorkerlessApi) -> None:
    record = workerless.claim(workerless.submit()["id"])
    workerless.claims.progress(record.id, record.token, step=0, total_steps=5, phase="upscaling")
    visitor = Visitor(page, workerless.stack.url)
    visitor.open(f"/#/jobs/{record.id}")
    expect(visitor.phase).to_have_text("upscaling")
    workerless.succeed(record)


def test_no_label_is_for_a_phase_that_is_never_reported(page: Page, workerless: WorkerlessApi) -> None:
    Visitor(page, workerless.stack.url).open()
    module = page.locator("link[rel=modulepreload][href$='stage.js']").get_attribute("href")
    labels = page.evaluate("async (path) => (await import(new URL(path, location.href).href)).PHASE_LABELS", module)
    assert labels == {"starting": "Starting", **REPORTED_BY_THE_WORKER}
