"""The form: its fields come from the API, and problems are shown beside their fields."""

from __future__ import annotations

import httpx
from playwright.sync_api import expect

from testkit.processes import Stack
from tests.page.visitor import Visitor


def test_a_problem_is_shown_beside_its_field_and_no_job_is_made(visitor: Visitor, studio: Stack) -> None:
    page = visitor.page
    with httpx.Client(base_url=studio.url) as http:
        before = http.get("/jobs").json()["items"]
        visitor.fill("hills", width=1001)
        page.get_by_role("button", name="Paint", exact=True).click()
        width = page.get_by_label("Width")
        expect(width).to_have_attribute("aria-invalid", "true")
        expect(width).to_be_focused()
        expect(page.locator("#field-width-fault")).to_contain_text("multiple of 8")
        visitor.fill("", width=1024)
        page.get_by_role("button", name="Paint", exact=True).click()
        expect(page.locator("#prompt-fault")).not_to_be_empty()
        expect(page.locator("#field-width-fault")).to_be_empty()
        assert http.get("/jobs").json()["items"] == before


def test_every_field_of_the_request_is_offered(visitor: Visitor, studio: Stack) -> None:
    schemas = httpx.get(f"{studio.url}/openapi.json").json()["components"]["schemas"]
    offered = set(visitor.page.locator("#composer [name]").evaluate_all("all => all.map(each => each.name)"))
    # There is only one model; the others are for programs. A field that can only be null is not offered.
    left_out = {"model", "metadata", "webhook_url", "priority", "regions", "region_feather", "region_bootstrap"}
    fields = {
        name
        for name, field in schemas["PanoramaRequest"]["properties"].items()
        if name not in left_out and field.get("type") != "null"
    }
    assert offered == fields


def test_the_form_survives_a_reload(visitor: Visitor) -> None:
    visitor.fill("kept hills", width=2048)
    visitor.page.reload()
    expect(visitor.page.get_by_label("Prompt", exact=True)).to_have_value("kept hills")
    expect(visitor.page.get_by_label("Width")).to_have_value("2048")


def test_a_jobs_input_can_be_edited(visitor: Visitor) -> None:
    visitor.paint("an edited ocean", steps=2, seed=3)
    expect(visitor.viewer).to_be_visible(timeout=60_000)
    visitor.fill("something else", seed=4)
    visitor.page.get_by_role("button", name="Edit", exact=True).click()
    expect(visitor.page.get_by_label("Prompt", exact=True)).to_have_value("an edited ocean")
    expect(visitor.page.get_by_label("Seed")).to_have_value("3")


def test_regions_of_a_job_are_kept_when_it_is_painted_again_and_the_form_says_that_it_has_none(
    visitor: Visitor, studio: Stack
) -> None:
    halves = [{"prompt": "mountains at noon", "right": 0.5}, {"prompt": "a city at night", "left": 0.5}]
    asked = {"prompt": "two halves", "width": 1024, "num_inference_steps": 1, "regions": halves, "region_feather": 0.2}
    with httpx.Client(base_url=studio.url) as http:
        first = http.post("/panoramas", json=asked).json()
        visitor.open(f"/#/jobs/{first['id']}")
        expect(visitor.page.locator("dl")).to_contain_text("Regions")
        visitor.page.get_by_role("button", name="Edit", exact=True).click()
        expect(visitor.page.get_by_text("This form has no regions")).to_be_visible()
        before = visitor.page.url
        visitor.page.get_by_role("button", name="Paint this again").click()
        visitor.page.wait_for_function("before => location.href !== before", arg=before)
        assert http.get(f"/jobs/{visitor.job_id}").json()["input"] == first["input"]
