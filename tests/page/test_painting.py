"""Painting on the page: submit, watch, cancel, reload, repeat, delete."""

from __future__ import annotations

import httpx
from playwright.sync_api import expect

from testkit.processes import Stack
from tests.page.visitor import Visitor


def test_a_panorama_is_painted_watched_and_downloaded(visitor: Visitor, studio: Stack) -> None:
    page = visitor.page
    job_id = visitor.paint("hills at noon, painted and kept", steps=20)
    expect(visitor.progress).to_be_visible()
    expect(visitor.detail).to_contain_text("step ", timeout=30_000)
    expect(page.locator("#preview")).to_be_visible(timeout=30_000)
    expect(visitor.viewer).to_be_visible(timeout=60_000)
    expect(page.get_by_role("status")).to_have_text("The panorama is there.")
    expect(visitor.card("painted and kept").get_by_role("img", include_hidden=True).first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    picture = httpx.get(f"{studio.url}/jobs/{job_id}/image").content
    assert download.value.path().read_bytes() == picture
    assert download.value.suggested_filename.endswith(".png")


def test_steps_count_up_on_the_screen(visitor: Visitor) -> None:
    visitor.page.evaluate(
        "() => { const bar = document.getElementById('progress'); window.steps = [];"
        "new MutationObserver(() => steps.push(Number(bar.dataset.step)))"
        ".observe(bar, {attributes: true, attributeFilter: ['data-step']}); }"
    )
    visitor.paint("counted hills at noon", steps=8)
    expect(visitor.viewer).to_be_visible(timeout=60_000)
    steps = visitor.page.evaluate("window.steps")
    assert steps == sorted(steps)
    assert len(set(steps)) >= 4


def test_a_running_job_is_canceled(visitor: Visitor, studio: Stack) -> None:
    job_id = visitor.paint("a canceled ocean at night", steps=150)
    expect(visitor.detail).to_contain_text("step ", timeout=30_000)
    visitor.page.get_by_role("button", name="Cancel", exact=True).click()
    expect(visitor.page.get_by_role("heading", name="Canceled")).to_be_visible()
    assert httpx.get(f"{studio.url}/jobs/{job_id}").json()["state"] == "canceled"


def test_several_jobs_run_at_once(visitor: Visitor) -> None:
    for name in ("first", "second"):
        visitor.paint(f"{name} of several deserts", steps=8)
    expect(visitor.viewer).to_be_visible(timeout=60_000)
    visitor.card("first of several deserts").get_by_role("link").click()
    expect(visitor.viewer).to_have_accessible_name("Panorama: first of several deserts", timeout=60_000)


def test_a_reload_during_a_job_keeps_watching(visitor: Visitor) -> None:
    visitor.paint("a reloaded city at dusk", steps=40)
    expect(visitor.detail).to_contain_text("step ", timeout=30_000)
    visitor.page.reload()
    expect(visitor.progress).to_be_visible()
    expect(visitor.viewer).to_be_visible(timeout=60_000)
    expect(visitor.viewer).to_have_accessible_name("Panorama: a reloaded city at dusk")


def test_the_page_reconnects_after_a_restart_of_the_api(visitor: Visitor, studio: Stack) -> None:
    visitor.paint("an outlived forest at dawn", steps=60)
    expect(visitor.detail).to_contain_text("step ", timeout=30_000)
    port = int(visitor.url.rsplit(":", 1)[1])
    api = next(process for process in studio.processes if "api" in process.args)  # type: ignore[operator]
    api.kill()
    api.wait()
    studio.processes.remove(api)
    studio.start_api(port)
    expect(visitor.viewer).to_be_visible(timeout=60_000)


def test_paint_again_repeats_the_seed_and_vary_does_not(visitor: Visitor, studio: Stack) -> None:
    with httpx.Client(base_url=studio.url) as http:
        first = visitor.paint("varied hills in fog", steps=3, seed=11)
        expect(visitor.viewer).to_be_visible(timeout=60_000)
        seeds = []
        for button in ("Paint this again", "Vary the seed"):
            before = visitor.page.url
            visitor.page.get_by_role("button", name=button).click()
            visitor.page.wait_for_function("before => location.href !== before", arg=before)
            seeds.append(http.get(f"/jobs/{visitor.job_id}").json()["input"]["seed"])
            expect(visitor.viewer).to_be_visible(timeout=60_000)
        assert first != visitor.job_id
        assert seeds[0] == 11
        assert seeds[1] != 11


def test_a_deleted_panorama_is_gone(visitor: Visitor, studio: Stack) -> None:
    job_id = visitor.paint("a deleted desert", steps=2)
    expect(visitor.viewer).to_be_visible(timeout=60_000)
    visitor.page.get_by_role("button", name="Delete: a deleted desert").click()
    visitor.page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(visitor.page.get_by_role("listitem").filter(has_text="a deleted desert")).to_have_count(0)
    assert httpx.get(f"{studio.url}/jobs/{job_id}").status_code in {404, 410}


def test_an_unknown_job_is_reported_as_gone(visitor: Visitor) -> None:
    visitor.open(f"/#/jobs/{'0' * 32}")
    expect(visitor.page.get_by_role("heading", name="This panorama is gone")).to_be_visible()
